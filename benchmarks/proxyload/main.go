// Proxyload is both ends of a measured proxy: a server behind it, and callers in front of it that cost next to nothing.
//
//	proxyload serve                                   prints its address, serves until its input ends
//	proxyload requests ADDRESS CONNECTIONS SECONDS    requests one after the other on each connection
//	proxyload bulk ADDRESS BYTES                      one connection, read as fast as it comes
//	proxyload connects ADDRESS WORKERS SECONDS        connections opened, used once and closed
//	proxyload paced ADDRESS CONNECTIONS RATE SECONDS  so many requests a second, however long the answers take
//	proxyload churn ADDRESS WORKERS COUNT             so many connections opened, used once and closed; counts errors
//	proxyload burst ADDRESS CONNECTIONS               one request on each connection, all at once
//	proxyload hold ADDRESS CONNECTIONS                connections used once and held open until its input ends
//
// Callers print one JSON object. A connection begins with one byte: 'r' for requests of 100 bytes that are answered
// with 200, 'o' for one such request only, 'b' and a number of eight bytes for so many bytes in answer. The first eight
// bytes of a request come back in its answer. As many files may be open as the system allows: Go sees to that.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	requestBytes = 100
	replyBytes   = 200
	patience     = 120 * time.Second
	errorsMax    = 100 // then churn gives up: each may take as long as the patience
	errorsSaid   = 5   // so many of them are said in words

	// No keep-alive probes: those of ten thousand connections that were opened together come together, more than
	// the loopback's queue takes, and after nine lost ones in a row a connection is given up.
	notAlive = time.Duration(-1)
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
		fmt.Fprintln(os.Stderr, "proxyload: say what to do: serve, requests, paced, bulk, connects, churn, burst or hold")
		os.Exit(2)
	}
	given := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve()
	case "requests":
		report(requests(given[0], number(given[1]), seconds(given[2])))
	case "paced":
		report(paced(given[0], number(given[1]), number(given[2]), seconds(given[3])))
	case "bulk":
		report(bulk(given[0], number(given[1])))
	case "connects":
		report(connects(given[0], number(given[1]), seconds(given[2])))
	case "churn":
		report(churn(given[0], number(given[1]), number(given[2])))
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
	settings := net.ListenConfig{KeepAlive: notAlive}
	listener, err := settings.Listen(context.Background(), "tcp", "127.0.0.1:0")
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
			break
		}
		copy(reply, request[:8])
		if _, err := connection.Write(reply); err != nil || kind[0] == 'o' {
			return
		}
	}
	// Who ends first keeps the port for a minute, and a proxy that hands on its caller's end is first: its ports would
	// run out. A reset gives the port back at once. (Nothing is lost: the caller had its answers before it ended.)
	_ = connection.(*net.TCPConn).SetLinger(0)
}

func dial(address string) net.Conn {
	dialer := net.Dialer{Timeout: patience, KeepAlive: notAlive}
	connection, err := dialer.Dial("tcp", address)
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
	must(exchange(connection, request, reply))
	return time.Since(begun)
}

func exchange(connection net.Conn, request, reply []byte) error {
	if _, err := connection.Write(request); err != nil {
		return err
	}
	_, err := io.ReadFull(connection, reply)
	return err
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

// paced measures latency at a rate that leaves the machine idle time: at saturation it is the inverse of throughput only.
// The pauses between requests are exponential, and a request that finds every connection busy waits (and that counts).
func paced(address string, connections, rate int, duration time.Duration) map[string]float64 {
	opened := openAll(address, connections)
	due := make(chan time.Time, rate) // a second's worth: no lag of the callers holds up the clock
	go func() {
		defer close(due)
		begun := time.Now()
		for next := time.Duration(0); next < duration; {
			next += time.Duration(rand.ExpFloat64() / float64(rate) * float64(time.Second))
			pause(next - time.Since(begun))
			due <- time.Now()
		}
	}()
	latencies := each(connections, func() []time.Duration {
		connection := <-opened
		defer connection.Close()
		request, reply := make([]byte, requestBytes), make([]byte, replyBytes)
		var taken []time.Duration
		for begun := range due {
			must(exchange(connection, request, reply))
			taken = append(taken, time.Since(begun))
		}
		return taken
	})
	figures := quantiles(latencies)
	figures["per_s"] = float64(len(latencies)) / duration.Seconds()
	return figures
}

// pause sleeps to some ten microseconds; Go's own timers are rounded to a millisecond when nothing else is to be done.
func pause(duration time.Duration) {
	if duration > 0 {
		left := syscall.NsecToTimespec(duration.Nanoseconds())
		_ = syscall.Nanosleep(&left, nil)
	}
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

// churn opens, uses and closes connections, each in one of the three ways that a connection ends: the caller resets it,
// the caller ends it, the server ends it. (Where the caller ends, its own port is kept: Linux uses those of the loopback
// interface again after a second, net.ipv4.tcp_tw_reuse.)
func churn(address string, workers, count int) map[string]float64 {
	var begun, failed atomic.Int64
	start := time.Now()
	latencies := each(workers, func() []time.Duration {
		var taken []time.Duration
		for failed.Load() < errorsMax {
			turn := begun.Add(1)
			if turn > int64(count) {
				break
			}
			since := time.Now()
			if err := useOnce(address, turn); err != nil {
				if failed.Add(1) <= errorsSaid {
					fmt.Fprintf(os.Stderr, "proxyload: connection %d: %v\n", turn, err)
				}
				continue
			}
			taken = append(taken, time.Since(since))
		}
		return taken
	})
	return map[string]float64{
		"good": float64(len(latencies)), "errors": float64(failed.Load()),
		"per_s": float64(len(latencies)) / time.Since(start).Seconds(),
	}
}

func useOnce(address string, turn int64) error {
	opened, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	connection := opened.(*net.TCPConn)
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	kinds := [...]byte{'r', 'r', 'o'}
	ending := turn % int64(len(kinds))
	request := binary.BigEndian.AppendUint64([]byte{kinds[ending]}, uint64(turn))
	request, reply := append(request, make([]byte, requestBytes-8)...), make([]byte, replyBytes)
	if err := exchange(connection, request, reply); err != nil {
		return err
	}
	if answered := binary.BigEndian.Uint64(reply); answered != uint64(turn) {
		return fmt.Errorf("got the answer to request %d", answered)
	}
	if ending == 0 {
		return connection.SetLinger(0)
	}
	if ending == 1 {
		if err := connection.CloseWrite(); err != nil {
			return err
		}
	}
	// Where the caller ends, the server resets (see answer), and a proxy may hand on that.
	_, err = connection.Read(reply)
	if !errors.Is(err, io.EOF) && !(ending == 1 && errors.Is(err, syscall.ECONNRESET)) {
		return fmt.Errorf("wanted the end of the stream, got %v", err)
	}
	return nil
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

// hold also says how many connections did not answer any more when they were about to be closed.
func hold(address string, connections int) {
	opened := openAll(address, connections)
	request, reply := make([]byte, requestBytes), make([]byte, replyBytes)
	everyOne := func(use func(connection net.Conn)) {
		for range connections {
			connection := <-opened
			use(connection)
			opened <- connection
		}
	}
	everyOne(func(connection net.Conn) { ask(connection, request, reply) })
	report(map[string]float64{"held": float64(connections)})
	_, _ = io.Copy(io.Discard, os.Stdin)
	dead := 0
	everyOne(func(connection net.Conn) {
		must(connection.SetDeadline(time.Now().Add(patience)))
		if exchange(connection, request, reply) != nil {
			dead++
		}
		connection.Close()
	})
	report(map[string]float64{"errors": float64(dead)})
}
