module directlb.io/e2e/lab/tools/pause

go 1.24
