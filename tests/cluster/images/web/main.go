// Command web is what the cluster's tests scale, restart and drain: it answers on port 8080, on /readyz with 200 once
// it has run for READY_AFTER (a duration, by default none), and ends at SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	wait := time.Duration(0)
	if text := os.Getenv("READY_AFTER"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil {
			log.Fatal("READY_AFTER: ", err)
		}
	}
	ready := time.Now().Add(wait)

	http.HandleFunc("/readyz", func(answer http.ResponseWriter, _ *http.Request) {
		if time.Now().Before(ready) {
			http.Error(answer, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(answer, "ready")
	})
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(answer, name)
	})

	server := http.Server{Addr: ":8080"}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		<-stop.Done()
		server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
