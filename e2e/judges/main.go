// Program judge says what others make of what Fulmar shows: Prometheus of metrics and queries, kstatus (Helm, Flux, kustomize) and
// Argo CD of objects. It links their own code, and prints JSON.
//
//	judge queries RULES.yaml DASHBOARD.json TARGETS.json
//	judge fires RULES.yaml CASES.yaml TARGETS.json
//	judge kstatus OBJECTS.yaml…
//	judge argo HEALTH.lua OBJECTS.yaml…
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: judge queries|fires|kstatus|argo FILE…"))
	}
	var verdict any
	var err error
	switch files := os.Args[2:]; os.Args[1] {
	case "queries":
		verdict, err = judgeQueries(files)
	case "fires":
		verdict, err = judgeAlerts(files)
	case "kstatus":
		verdict, err = judgeByKstatus(files)
	case "argo":
		verdict, err = judgeByLua(files[0], files[1:])
	default:
		err = fmt.Errorf("%q is none of queries, fires, kstatus, argo", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
	printer := json.NewEncoder(os.Stdout)
	printer.SetIndent("", "  ")
	if err := printer.Encode(verdict); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "judge:", err)
	os.Exit(1)
}
