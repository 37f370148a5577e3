module directlb.io/e2e/echo

go 1.25.0
