package main

import _ "embed"

//go:embed page.html
var pageHTML string
