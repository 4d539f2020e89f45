// Package inorder knows how to work on a stream of items with all cores and still take the results in the items' order:
// what a compressed format needs to come out the same, however many cores there are. It refuses to know what the
// items are.
package inorder

import (
	"context"
	"runtime"
	"sync"
)

// ahead is how many items may be under way for each core: enough that no core waits for another's slow item, few
// enough that memory stays small.
const ahead = 4

// Queue hands items to the cores, and their results to one function, in the order in which they were put.
type Queue[T any] struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	todo   chan *item[T]
	order  chan *item[T]
	wg     sync.WaitGroup
}

type item[T any] struct {
	value T
	done  chan struct{}
}

// New starts a queue. work is called by several goroutines at a time, each with an item of its own; take by one, in
// order. The first error of either ends it all.
func New[T any](ctx context.Context, work func(*T) error, take func(*T) error) *Queue[T] {
	cores := runtime.GOMAXPROCS(0)
	q := &Queue[T]{todo: make(chan *item[T], ahead*cores), order: make(chan *item[T], ahead*cores)}
	q.ctx, q.cancel = context.WithCancelCause(ctx)
	for range cores {
		q.wg.Go(func() {
			for it := range q.todo {
				if q.ctx.Err() == nil {
					q.fail(work(&it.value))
				}
				close(it.done)
			}
		})
	}
	q.wg.Go(func() {
		for it := range q.order {
			<-it.done
			if q.ctx.Err() == nil {
				q.fail(take(&it.value))
			}
		}
	})
	return q
}

func (q *Queue[T]) fail(err error) {
	if err != nil {
		q.cancel(err)
	}
}

// Put hands over an item, and waits where too many are under way. It fails once anything else has.
func (q *Queue[T]) Put(value T) error {
	it := &item[T]{value: value, done: make(chan struct{})}
	select {
	case q.order <- it:
	case <-q.ctx.Done():
		return context.Cause(q.ctx)
	}
	q.todo <- it // there is room, or a worker that makes some: each drains what is put, whatever failed
	return nil
}

// Close waits until every item has been taken. It must be called, once, whatever Put said.
func (q *Queue[T]) Close() error {
	close(q.todo)
	close(q.order)
	q.wg.Wait()
	err := context.Cause(q.ctx)
	q.cancel(nil)
	return err
}
