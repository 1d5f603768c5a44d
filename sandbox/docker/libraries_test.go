package docker

import (
	"strings"
	"testing"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// TestLibraries does with the image's programs what people ask for. Each row
// reads back what it wrote; the last thing it prints says that it worked.
func TestLibraries(t *testing.T) {
	t.Parallel()
	th := sandboxtest.Open(t, newBench(t, testConfig(t, auto)).attached(t), "libraries")
	for _, test := range []struct {
		name     string
		language sandbox.Language
		code     string
		want     string
	}{
		{"a workbook", sandbox.Python, `
import pandas as pd
pd.DataFrame({"town": ["Oslo", "København"], "n": [1, 2]}).to_excel("a.xlsx", index=False)
print(pd.read_excel("a.xlsx").n.sum(), pd.read_excel("a.xlsx").town[1])`, "3 København"},
		{"a Word document", sandbox.Python, `
import docx
d = docx.Document(); d.add_heading("Sales"); d.add_paragraph("Up 3 %"); d.save("a.docx")
print([p.text for p in docx.Document("a.docx").paragraphs])`, "['Sales', 'Up 3 %']"},
		{"slides with a chart", sandbox.Python, `
import subprocess, matplotlib.pyplot as plt
plt.plot([1, 3, 2]); plt.savefig("chart.png"); plt.close("all")
open("a.md", "w").write("% Results\n\n# Sales\n\n- up 3 %\n\n# By month\n\n![](chart.png)\n")
subprocess.run("pandoc a.md -o a.pptx && soffice --headless --convert-to pdf a.pptx && pdftotext a.pdf", shell=True, check=True, capture_output=True)
print(open("a.txt").read().split())`, "'Sales'"},
		{"a PDF", sandbox.Python, `
from reportlab.pdfgen import canvas
import pypdf
c = canvas.Canvas("b.pdf"); c.drawString(72, 720, "Invoice 4711"); c.save()
print(pypdf.PdfReader("b.pdf").pages[0].extract_text())`, "Invoice 4711"},
		{"words in a picture", sandbox.Bash, `
convert -size 600x120 xc:white -pointsize 48 -annotate +20+80 'Total 4711' scan.png
tesseract scan.png - 2>/dev/null`, "Total 4711"},
		{"a film", sandbox.Bash, `
ffmpeg -v error -f lavfi -i testsrc=duration=1:size=64x64:rate=5 -y a.mp4
ffprobe -v error -count_frames -show_entries stream=nb_read_frames -of csv=p=0 a.mp4`, "5"},
		{"a model", sandbox.Python, `
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier
X, y = make_classification(200, random_state=0)
print(all(m.fit(X, y).score(X, y) > 0.8 for m in (LogisticRegression(), XGBClassifier(n_estimators=10, n_jobs=1))))`, "True"},
		{"a map", sandbox.Python, `
import geopandas, shapely
g = geopandas.GeoSeries([shapely.Point(0, 0), shapely.Point(0, 1)], crs=4326)
print(round(g.to_crs(3857).distance(g.to_crs(3857)[0])[1] / 1000))`, "111"},
		{"a test", sandbox.R, `cat(round(t.test(extra ~ group, data = sleep)$p.value, 3))`, "0.079"},
		{"a forecast", sandbox.R, `library(forecast); cat(length(forecast(auto.arima(WWWusage), h = 5)$mean))`, "5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := textOf(cellIn(t, th, test.language, test.code).Want(t, sandbox.OK)); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q in it", got, test.want)
			}
		})
	}
}
