// Makes system calls that are caught at every depth of small stacks that grow, shrink and move, while the collector
// runs and signals arrive. Prints "ok", or what is wrong.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	clockGettime   = syscall.SYS_CLOCK_GETTIME
	clockNanosleep = syscall.SYS_CLOCK_NANOSLEEP
	gettimeofday   = syscall.SYS_GETTIMEOFDAY
	monotonic      = 1
	absolute       = 1
)

var failed atomic.Pointer[string]

func fail(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	failed.CompareAndSwap(nil, &text)
}

// read returns the clock in nanoseconds.
func read(raw bool) int64 {
	var time [2]int64
	var errno syscall.Errno
	if raw {
		_, _, errno = syscall.RawSyscall(clockGettime, monotonic, uintptr(unsafe.Pointer(&time)), 0)
	} else {
		_, _, errno = syscall.Syscall6(clockGettime, monotonic, uintptr(unsafe.Pointer(&time)), 0, 0, 0, 0)
	}
	if errno != 0 {
		fail("clock_gettime: %d", errno)
	}
	return time[0]*1e9 + time[1]
}

func calls(depth int) {
	raw := depth%2 == 0
	before := read(raw)
	end := before + 20000
	deadline := [2]int64{end / 1e9, end % 1e9}
	var errno syscall.Errno
	if raw {
		_, _, errno = syscall.RawSyscall6(clockNanosleep, monotonic, absolute, uintptr(unsafe.Pointer(&deadline)), 0, 0, 0)
	} else {
		_, _, errno = syscall.Syscall6(clockNanosleep, monotonic, absolute, uintptr(unsafe.Pointer(&deadline)), 0, 0, 0)
	}
	after := read(!raw)
	if errno != 0 && errno != syscall.EINTR || after < before || errno == 0 && after < end {
		fail("clock_nanosleep: %d, from %d until %d instead of %d", errno, before, after, end)
	}
	var micro [2]int64
	if _, _, errno := syscall.RawSyscall(gettimeofday, uintptr(unsafe.Pointer(&micro)), 0, 0); errno != 0 || micro[0] == 0 {
		fail("gettimeofday: %d", errno)
	}
}

// descend makes the calls at the bottom, with values on the way that nobody may touch.
//
//go:noinline
func descend(depth, value int) int {
	var canary [9]int
	for each := range canary {
		canary[each] = value + each*depth
	}
	sum := 0
	if depth == 0 || depth%37 == 0 {
		calls(depth)
	}
	if depth > 0 {
		sum = descend(depth-1, value+1)
	}
	for each := range canary {
		if canary[each] != value+each*depth {
			fail("depth %d: %d instead of %d", depth, canary[each], value+each*depth)
		}
	}
	return sum + canary[0]
}

func main() {
	runtime.GOMAXPROCS(4)
	debug.SetGCPercent(5)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	var received atomic.Int64
	go func() {
		for range signals {
			received.Add(1)
		}
	}()
	done := make(chan struct{})
	var others sync.WaitGroup
	others.Add(2)
	go func() {
		defer others.Done()
		for {
			select {
			case <-done:
				return
			default:
				runtime.GC()
				time.Sleep(time.Millisecond)
			}
		}
	}()
	go func() {
		defer others.Done()
		for each := 0; ; each++ {
			select {
			case <-done:
				return
			default:
				syscall.Kill(syscall.Getpid(), []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGURG}[each%3])
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	var workers sync.WaitGroup
	// Each on a fresh, small stack, so that every depth meets every fill.
	for depth := 0; depth < 400; depth++ {
		depth := depth
		workers.Add(1)
		go func() {
			defer workers.Done()
			if sum := descend(depth, 1000); sum != (depth+1)*1000+depth*(depth+1)/2 {
				fail("depth %d: sum %d", depth, sum)
			}
			if depth%8 == 0 {
				descend(depth*20, depth)
			}
		}()
		if depth%16 == 15 {
			workers.Wait()
		}
	}
	workers.Wait()
	close(done)
	others.Wait()
	if received.Load() == 0 {
		fail("no signal arrived")
	}
	if text := failed.Load(); text != nil {
		fmt.Println(*text)
		os.Exit(1)
	}
	fmt.Println("ok")
}
