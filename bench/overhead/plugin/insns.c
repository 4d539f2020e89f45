/*
 * A plugin of QEMU's TCG (docs/devel/tcg-plugins.rst in QEMU) that counts what instructions the guest's processors run. The
 * counts stand in a file, 'insns' in QEMU's working folder, as they grow: 64 bits in the host's byte order for each
 * processor, CELL bytes apart. Each processor is a thread, and writes to its own cell alone.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is used of qemu-plugin.h, version 1 of the interface: Debian has the header in no package. */
#define EXPORT __attribute__((visibility("default")))
struct qemu_plugin_tb;
enum { CB_NO_REGS = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned int cpu, void *data), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

EXPORT int qemu_plugin_version = 1;

#define CELL 64
#define CPUS 64

static char *counts;

static void executed(unsigned int cpu, void *n)
{
  if (cpu < CPUS) *(volatile uint64_t *)(counts + cpu * CELL) += (uintptr_t)n;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, CB_NO_REGS, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
  (void)info, (void)argc, (void)argv;
  int fd = open("insns", O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0 || ftruncate(fd, CPUS * CELL)) {
    perror("insns");
    return 1;
  }
  counts = mmap(0, CPUS * CELL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (counts == MAP_FAILED) {
    perror("insns");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  return 0;
}
