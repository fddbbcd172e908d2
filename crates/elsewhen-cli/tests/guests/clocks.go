// Prints what Go's clocks read: lines `CLOCK RESOLUTION_NS VALUE_NS`.
package main

import (
	"fmt"
	"time"
	_ "unsafe"
)

//go:linkname nanotime runtime.nanotime
func nanotime() int64

func main() {
	fmt.Println(0, 1, time.Now().UnixNano())
	fmt.Println(1, 1, nanotime())
}
