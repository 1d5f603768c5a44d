package main

/*
typedef void (*threadbook_scan_t)(void *, void *, void *);
void threadbook_scan(void *, void *, void *);
*/
import "C"

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// readers are the functions that read a file, by the end of its name.
var readers = []struct{ suffix, function string }{
	{".csv", "read_csv_auto"},
	{".tsv", "read_csv_auto"},
	{".csv.gz", "read_csv_auto"},
	{".tsv.gz", "read_csv_auto"},
	{".json", "read_json_auto"},
	{".jsonl", "read_json_auto"},
	{".ndjson", "read_json_auto"},
	{".json.gz", "read_json_auto"},
	{".jsonl.gz", "read_json_auto"},
	{".ndjson.gz", "read_json_auto"},
	{".parquet", "read_parquet"},
}

// A dataFile is a file that can stand for a table.
type dataFile struct {
	name     string // "Sales 2024.csv"
	stem     string // "Sales 2024"
	function string // reads it
}

// dataFiles are those of the working folder, /workspace; a file further down
// is named by its path, in quotes.
func dataFiles() []dataFile {
	entries, err := os.ReadDir(".")
	if err != nil {
		return nil
	}
	var found []dataFile
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || entry.IsDir() {
			continue
		}
		lower := strings.ToLower(name)
		for _, r := range readers {
			if strings.HasSuffix(lower, r.suffix) {
				found = append(found, dataFile{name, name[:len(name)-len(r.suffix)], r.function})
			}
		}
	}
	return found
}

// fold makes of a file's stem what one would write in SQL without quotes:
// "Sales 2024 (final)" is sales_2024_final.
func fold(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	})
	return strings.Join(words, "_")
}

// findFile finds the file that a name stands for, where no table has that
// name: the file whose stem it is, or else the one whose folded stem it is.
// It is an error if there are several.
func findFile(name string, files []dataFile) (*dataFile, error) {
	for _, same := range []func(a, b string) bool{
		func(a, b string) bool { return a == b },
		func(a, b string) bool { return fold(a) != "" && fold(a) == fold(b) },
	} {
		var fit []dataFile
		for _, file := range files {
			if same(file.stem, name) {
				fit = append(fit, file)
			}
		}
		switch len(fit) {
		case 0:
		case 1:
			return &fit[0], nil
		default:
			return nil, fmt.Errorf("%s could be any of %s: write which, as in FROM %s", name, fileNames(fit), literal(fit[0].name))
		}
	}
	return nil, nil
}

func fileNames(files []dataFile) string {
	var names []string
	for _, file := range files {
		names = append(names, literal(file.name))
	}
	slices.Sort(names)
	const most = 12
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// literal quotes a string for SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// replacementScan is what DuckDB is to call with a name that is no table's.
func replacementScan() unsafe.Pointer {
	return unsafe.Pointer(C.threadbook_scan_t(C.threadbook_scan))
}

//export threadbook_scan
func threadbook_scan(infoPtr, namePtr, _ unsafe.Pointer) {
	info := duckdb.ReplacementScanInfo{Ptr: infoPtr}
	name := C.GoString((*C.char)(namePtr))
	if spreadsheet(name) {
		duckdb.ReplacementScanSetError(info, "SQL reads CSV, JSON and Parquet here. Read the spreadsheet in Python, "+
			"and write the sheet as a CSV file: pd.read_excel(…).to_csv(…, index=False)")
		return
	}
	file, err := findFile(name, dataFiles())
	if err != nil {
		duckdb.ReplacementScanSetError(info, err.Error())
		return
	}
	if file == nil {
		return // DuckDB looks on, and says so if there is none
	}
	path := duckdb.CreateVarchar(file.name)
	defer duckdb.DestroyValue(&path)
	duckdb.ReplacementScanSetFunctionName(info, file.function)
	duckdb.ReplacementScanAddParameter(info, path)
}

func spreadsheet(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".xlsx") || strings.HasSuffix(name, ".xls") || strings.HasSuffix(name, ".ods")
}
