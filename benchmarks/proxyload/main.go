// Proxyload is both ends of a measured proxy: a server behind it, and callers in front of it that cost next to nothing.
//
//	proxyload serve                                   prints its address, serves until its input ends
//	proxyload requests ADDRESS CONNECTIONS SECONDS    requests one after the other on each connection
//	proxyload bulk ADDRESS BYTES                      one connection, read as fast as it comes
//	proxyload connects ADDRESS WORKERS SECONDS        connections opened, used once and closed
//	proxyload burst ADDRESS CONNECTIONS               one request on each connection, all at once
//	proxyload hold ADDRESS CONNECTIONS                connections held open until its input ends
//
// Callers print one JSON object. A connection begins with one byte: 'r' for requests of 100 bytes that are answered
// with 200, 'b' and a number of eight bytes for so many bytes in answer.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	requestBytes = 100
	replyBytes   = 200
	patience     = 120 * time.Second
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "proxyload:", err)
		os.Exit(1)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	must(err)
	return value
}

func seconds(text string) time.Duration {
	value, err := strconv.ParseFloat(text, 64)
	must(err)
	return time.Duration(value * float64(time.Second))
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "proxyload: say what to do: serve, requests, bulk, connects, burst or hold")
		os.Exit(2)
	}
	given := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve()
	case "requests":
		report(requests(given[0], number(given[1]), seconds(given[2])))
	case "bulk":
		report(bulk(given[0], number(given[1])))
	case "connects":
		report(connects(given[0], number(given[1]), seconds(given[2])))
	case "burst":
		report(burst(given[0], number(given[1])))
	case "hold":
		hold(given[0], number(given[1]))
	default:
		fmt.Fprintf(os.Stderr, "proxyload: %q is nothing it does\n", os.Args[1])
		os.Exit(2)
	}
}

func report(figures map[string]float64) {
	must(json.NewEncoder(os.Stdout).Encode(figures))
}

func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Println(listener.Addr())
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(connection)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func answer(connection net.Conn) {
	defer connection.Close()
	var kind [1]byte
	if _, err := io.ReadFull(connection, kind[:]); err != nil {
		return
	}
	if kind[0] == 'b' {
		var wanted [8]byte
		if _, err := io.ReadFull(connection, wanted[:]); err != nil {
			return
		}
		chunk := make([]byte, 256<<10)
		for left := int(binary.BigEndian.Uint64(wanted[:])); left > 0; left -= len(chunk) {
			if _, err := connection.Write(chunk[:min(left, len(chunk))]); err != nil {
				return
			}
		}
		return
	}
	request, reply := make([]byte, requestBytes), make([]byte, replyBytes)
	for {
		if _, err := io.ReadFull(connection, request); err != nil {
			return
		}
		if _, err := connection.Write(reply); err != nil {
			return
		}
	}
}

func dial(address string) net.Conn {
	connection, err := net.DialTimeout("tcp", address, patience)
	must(err)
	must(connection.SetDeadline(time.Now().Add(patience)))
	return connection
}

// openAll opens so many connections for requests; whoever works takes one.
func openAll(address string, connections int) chan net.Conn {
	opened := make(chan net.Conn, connections)
	for range connections {
		connection := dial(address)
		_, err := connection.Write([]byte{'r'})
		must(err)
		opened <- connection
	}
	return opened
}

func ask(connection net.Conn, request, reply []byte) time.Duration {
	begun := time.Now()
	_, err := connection.Write(request)
	must(err)
	_, err = io.ReadFull(connection, reply)
	must(err)
	return time.Since(begun)
}

// each does work in so many goroutines at once and returns all the latencies that they found.
func each(workers int, work func() []time.Duration) []time.Duration {
	var wait sync.WaitGroup
	found := make([][]time.Duration, workers)
	for worker := range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			found[worker] = work()
		}()
	}
	wait.Wait()
	return slices.Concat(found...)
}

func quantiles(latencies []time.Duration) map[string]float64 {
	slices.Sort(latencies)
	at := func(fraction float64) float64 {
		return latencies[int(fraction*float64(len(latencies)-1))].Seconds() * 1000
	}
	return map[string]float64{"p50_ms": at(0.5), "p99_ms": at(0.99)}
}

func requests(address string, connections int, duration time.Duration) map[string]float64 {
	opened := openAll(address, connections)
	end := time.Now().Add(duration)
	latencies := each(connections, func() []time.Duration {
		connection := <-opened
		defer connection.Close()
		request, reply := make([]byte, requestBytes), make([]byte, replyBytes)
		var taken []time.Duration
		for time.Now().Before(end) {
			taken = append(taken, ask(connection, request, reply))
		}
		return taken
	})
	figures := quantiles(latencies)
	figures["per_s"] = float64(len(latencies)) / duration.Seconds()
	return figures
}

func bulk(address string, bytes int) map[string]float64 {
	connection := dial(address)
	defer connection.Close()
	begun := time.Now()
	_, err := connection.Write(binary.BigEndian.AppendUint64([]byte{'b'}, uint64(bytes)))
	must(err)
	buffer := make([]byte, 256<<10)
	for left := bytes; left > 0; {
		read, err := connection.Read(buffer)
		must(err)
		left -= read
	}
	taken := time.Since(begun).Seconds()
	return map[string]float64{"mib_per_s": float64(bytes) / (1 << 20) / taken, "seconds": taken}
}

func connects(address string, workers int, duration time.Duration) map[string]float64 {
	end := time.Now().Add(duration)
	latencies := each(workers, func() []time.Duration {
		request, reply := append([]byte{'r'}, make([]byte, requestBytes)...), make([]byte, replyBytes)
		var taken []time.Duration
		for time.Now().Before(end) {
			begun := time.Now()
			connection := dial(address)
			ask(connection, request, reply)
			// Closed with a reset: the port would be kept for a minute else, and they would run out.
			must(connection.(*net.TCPConn).SetLinger(0))
			connection.Close()
			taken = append(taken, time.Since(begun))
		}
		return taken
	})
	figures := quantiles(latencies)
	figures["per_s"] = float64(len(latencies)) / duration.Seconds()
	return figures
}

func burst(address string, connections int) map[string]float64 {
	opened := openAll(address, connections)
	time.Sleep(200 * time.Millisecond) // what was sent to begin them is through
	return quantiles(each(connections, func() []time.Duration {
		connection := <-opened
		defer connection.Close()
		return []time.Duration{ask(connection, make([]byte, requestBytes), make([]byte, replyBytes))}
	}))
}

func hold(address string, connections int) {
	opened := openAll(address, connections)
	report(map[string]float64{"held": float64(connections)})
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(opened)
	for connection := range opened {
		connection.Close()
	}
}
