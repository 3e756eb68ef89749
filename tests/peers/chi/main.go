// What one dispatch costs in chi: method and path looked up, a handler called that does nothing. Reads rounds from
// standard input, one a line, `table millis`; answers `nanoseconds allocations bytes` of a request. A table is a file of
// `[{"method": …, "path": …}, …]`; each of its routes is asked for in turn, the parameters' own text as values.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"sort"
	"time"

	"github.com/go-chi/chi/v5"
)

type route struct{ Method, Path string }

type nothing struct{ header http.Header }

func (n nothing) Header() http.Header         { return n.header }
func (n nothing) Write(b []byte) (int, error) { return len(b), nil }
func (n nothing) WriteHeader(int)             {}

type table struct {
	router   chi.Router
	requests []*http.Request
}

func load(name string) table {
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	var routes []route
	if err := json.Unmarshal(text, &routes); err != nil {
		panic(err)
	}
	t := table{router: chi.NewRouter()}
	served := 0
	for _, r := range routes {
		t.router.MethodFunc(r.Method, r.Path, func(http.ResponseWriter, *http.Request) { served++ })
	}
	for _, r := range routes {
		path := ""
		for _, c := range r.Path {
			if c != '{' && c != '}' {
				path += string(c)
			}
		}
		t.requests = append(t.requests, &http.Request{Method: r.Method, URL: &url.URL{Path: path}, RequestURI: path})
	}
	for _, r := range t.requests {
		t.router.ServeHTTP(nothing{http.Header{}}, r)
	}
	if served != len(routes) {
		panic(fmt.Sprintf("%s: %d of %d served", name, served, len(routes)))
	}
	return t
}

func main() {
	runtime.GOMAXPROCS(1)
	tables := map[string]table{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var name string
		var millis int
		if _, err := fmt.Sscan(lines.Text(), &name, &millis); err != nil {
			panic(err)
		}
		t, known := tables[name]
		if !known {
			t = load(name)
			tables[name] = t
		}
		var before, after runtime.MemStats
		w := nothing{http.Header{}}
		var batches []float64
		calls := 0
		runtime.ReadMemStats(&before)
		for spent := time.Duration(0); spent < time.Duration(millis)*time.Millisecond; {
			start := time.Now()
			for range 1 + 256/len(t.requests) {
				for _, r := range t.requests {
					t.router.ServeHTTP(w, r)
				}
			}
			took := time.Since(start)
			spent += took
			done := (1 + 256/len(t.requests)) * len(t.requests)
			calls += done
			batches = append(batches, float64(took.Nanoseconds())/float64(done))
		}
		runtime.ReadMemStats(&after)
		sort.Float64s(batches)
		fmt.Printf("%.1f %.2f %.0f\n", batches[len(batches)/2],
			float64(after.Mallocs-before.Mallocs)/float64(calls),
			float64(after.TotalAlloc-before.TotalAlloc)/float64(calls))
	}
}
