// Waits, in every way that Go has; the conversation is that of waits.c.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
	_ "unsafe"
)

//go:linkname nanotime runtime.nanotime
func nanotime() int64

func must(condition bool, what string) {
	if !condition {
		fmt.Fprintln(os.Stderr, "waits:", what)
		os.Exit(1)
	}
}

// A deadline that is known by its date only, as one that was received or read from a file.
func wall(d time.Duration) time.Time {
	return time.Now().Add(d).Round(0)
}

func withContext(ctx context.Context, cancel context.CancelFunc) {
	defer cancel()
	<-ctx.Done()
	must(ctx.Err() == context.DeadlineExceeded, "the context did not end by its deadline")
}

func read(d time.Duration, network, address string) {
	listener, err := net.Listen(network, address)
	must(err == nil, "listen")
	defer listener.Close()
	accepted := make(chan struct{})
	go func() {
		// Nothing is ever written.
		peer, err := listener.Accept()
		must(err == nil, "accept")
		close(accepted)
		peer.Read(make([]byte, 1))
		peer.Close()
	}()
	conn, err := net.Dial(network, listener.Addr().String())
	must(err == nil, "dial")
	defer conn.Close()
	<-accepted
	must(conn.SetReadDeadline(time.Now().Add(d)) == nil, "set the deadline")
	_, err = conn.Read(make([]byte, 1))
	must(errors.Is(err, os.ErrDeadlineExceeded), "the read did not end by its deadline")
}

func pipe(d time.Duration) {
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	left.SetReadDeadline(time.Now().Add(d))
	_, err := left.Read(make([]byte, 1))
	must(errors.Is(err, os.ErrDeadlineExceeded), "the read did not end by its deadline")
}

func ticker(d time.Duration) {
	ticker := time.NewTicker(d / 4)
	defer ticker.Stop()
	for i := 0; i < 4; i++ {
		<-ticker.C
	}
}

func cond(d time.Duration) {
	var mutex sync.Mutex
	cond, over := sync.NewCond(&mutex), false
	time.AfterFunc(d, func() {
		mutex.Lock()
		over = true
		mutex.Unlock()
		cond.Broadcast()
	})
	mutex.Lock()
	defer mutex.Unlock()
	for !over {
		cond.Wait()
	}
}

var ways = []struct {
	name string
	wait func(time.Duration)
}{
	{"Sleep", time.Sleep},
	{"After", func(d time.Duration) { <-time.After(d) }},
	{"Timer", func(d time.Duration) { <-time.NewTimer(d).C }},
	{"Ticker", ticker},
	{"Until", func(d time.Duration) { time.Sleep(time.Until(time.Now().Add(d))) }},
	{"WithTimeout", func(d time.Duration) { withContext(context.WithTimeout(context.Background(), d)) }},
	{"WithDeadline", func(d time.Duration) { withContext(context.WithDeadline(context.Background(), wall(d))) }},
	{"Cond", cond},
	{"SetReadDeadline-tcp", func(d time.Duration) { read(d, "tcp", "127.0.0.1:0") }},
	{"SetReadDeadline-unix", func(d time.Duration) { read(d, "unix", fmt.Sprintf("@elsewhen-waits-%d", os.Getpid())) }},
	{"SetReadDeadline-pipe", pipe},
}

func main() {
	fmt.Print("ways")
	for _, way := range ways {
		fmt.Print(" ", way.name)
	}
	fmt.Println()
	var name string
	var ns int64
	for {
		if _, err := fmt.Scan(&name, &ns); err != nil {
			return
		}
		for _, way := range ways {
			if way.name == name {
				monotonic, realtime := nanotime(), time.Now().UnixNano()
				way.wait(time.Duration(ns))
				realtime, monotonic = time.Now().UnixNano()-realtime, nanotime()-monotonic
				fmt.Println(ns, monotonic, realtime)
			}
		}
	}
}
