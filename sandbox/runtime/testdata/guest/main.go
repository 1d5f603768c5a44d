// Command guest is what the tests run in a sandbox: it obeys the lines it reads
// and answers each with one line.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

func main() {
	var (
		total int
		held  [][]byte
	)
	local := loopback()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var (
			n    int
			path string
		)
		word, _, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "add": // add N
			fmt.Sscanf(lines.Text(), "add %d", &n)
			total += n
			fmt.Println("total", total)
		case "grow": // grow MEGABYTES
			fmt.Sscanf(lines.Text(), "grow %d", &n)
			held = append(held, bytes.Repeat([]byte{byte(n), 1, 2, 3}, n<<18))
			fmt.Println("grown", len(held))
		case "write": // write MEGABYTES PATH
			fmt.Sscanf(lines.Text(), "write %d %s", &n, &path)
			if err := os.WriteFile(path, make([]byte, n<<20), 0o600); err != nil {
				fmt.Println("error", err)
				continue
			}
			fmt.Println("written")
		case "size": // size PATH
			fmt.Sscanf(lines.Text(), "size %s", &path)
			info, err := os.Stat(path)
			if err != nil {
				fmt.Println("error", err)
				continue
			}
			fmt.Println("size", info.Size())
		case "loop": // through a connection that was there from the beginning
			fmt.Println(local(lines.Text()))
		case "env": // env NAME
			fmt.Println("env", os.Getenv(strings.TrimPrefix(lines.Text(), "env ")))
		default:
			fmt.Println("error: no such command")
		}
	}
}

// loopback opens a connection to itself, and returns what sends a line through it.
func loopback() func(string) string {
	fail := func(err error) func(string) string {
		return func(string) string { return "error " + err.Error() }
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fail(err)
	}
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return fail(err)
	}
	far, err := listener.Accept()
	if err != nil {
		return fail(err)
	}
	return func(line string) string {
		if _, err := near.Write([]byte(line)); err != nil {
			return "error " + err.Error()
		}
		buffer := make([]byte, len(line))
		if _, err := io.ReadFull(far, buffer); err != nil {
			return "error " + err.Error()
		}
		return string(buffer)
	}
}
