"""Lists the languages and libraries of this image, with their versions.

    list.py            a page for people: sandbox/image/LIBRARIES.md
    list.py --prompt   a few lines for the model: sandbox/image/libraries.txt

sandbox/image/list.sh writes both. The packages listed are those that the lists
of packages name under headings with "##"; what they bring along isn't.
Versions are cut to what matters for code, so that a list outlives bug fixes.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LISTS = ("packages.txt", "packages-full.txt")

# Where the name that people know is neither the package's nor in its metadata.
NAMES = {
    "python3-opencv": "OpenCV (cv2)",
    "python3-pil": "Pillow",
    "python3-graphviz": "graphviz for Python",
    "libreoffice-calc-nogui": "LibreOffice (soffice --headless --convert-to)",
    "pandoc": "pandoc (slides.md to slides.pptx)",
    "poppler-utils": "poppler-utils (pdftotext, pdftoppm)",
    "tesseract-ocr": "tesseract",
    "r-recommended": "R's recommended packages",
}
# Said already by another, or of no interest to who writes code.
LEFT_OUT = re.compile(r"libreoffice-(impress|writer)|tesseract-ocr-|fonts-|r-cran-irkernel|less|procps|file$")


def output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def short(version):
    """The part of a version that says what a library can do: "2.2" of "1:2.2.3+dfsg-1"."""
    found = re.match(r"(?:\d+:)?(\d+(?:[.-]\d+)?)", version)
    return found.group(1) if found else ""


def languages():
    """(language, program, version) of those in this image."""
    found = [("Python", "CPython", short(sys.version))]
    if version := output("R", "--version"):
        found.append(("R", "R", short(version.split()[2])))
    if version := output("threadbook-sql", "version"):
        found.append(("SQL", "DuckDB", short(version.strip().lstrip("v"))))
    found.append(("Bash", "bash", short(output("bash", "-c", "echo $BASH_VERSION"))))
    if version := output("deno", "--version"):
        found.append(("JavaScript and TypeScript", "Deno", short(version.split()[1])))
    return found


def groups():
    """Headings and the packages below them: {heading: [package]}."""
    found, heading = {}, None
    for name in LISTS:
        with open(f"{HERE}/{name}") as lines:
            for line in map(str.strip, lines):
                if line.startswith("## "):
                    heading = line[3:]
                elif not line or line.startswith("# "):
                    heading = heading if line else None
                elif heading and not LEFT_OUT.match(line):
                    found.setdefault(heading, []).append(line)
    return found


def installed():
    """The versions of all packages in the image."""
    lines = output("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\n").splitlines()
    fields = (line.split() for line in lines)
    return {name: version for name, status, version in fields if status == "installed"}


def known_as(package):
    """The name that a package's users have for it."""
    if package in NAMES:
        return NAMES[package]
    files = output("dpkg", "-L", package).split("\n")
    for file in files:
        if re.search(r"\.(dist|egg)-info/(METADATA|PKG-INFO)$|\.egg-info$", file) and os.path.isfile(file):
            with open(file, encoding="utf-8") as lines:
                for line in lines:
                    if line.startswith("Name:"):
                        return line.split()[1]
        if match := re.fullmatch(r"/usr/lib/R/(?:site-)?library/([^/]+)/DESCRIPTION", file):
            return match.group(1)
    return package.removeprefix("python3-").removeprefix("r-cran-")


def libraries():
    """Headings and what is below them: {heading: [(name, version)]}."""
    versions = installed()
    found = {}
    for heading, packages in groups().items():
        names = [(known_as(name), short(versions[name])) for name in packages if name in versions]
        if names:
            found[heading] = sorted(names, key=lambda pair: pair[0].lower())
    return found


def page():
    yield "# What is in the sandbox"
    yield ""
    yield "Made from the image by `sandbox/image/list.sh`: don't edit it here. The slim image has what stands"
    yield "in `packages.txt`; all of it is Debian's, but for DuckDB and Deno. There is no network in a sandbox:"
    yield "nothing can be added while it runs."
    yield ""
    yield "| language | | version |"
    yield "|---|---|---|"
    for language, program, version in languages():
        yield f"| {language} | {program} | {version} |"
    found = libraries()
    last = {heading: found.pop(heading) for heading in ("R", "Programs") if heading in found}
    python = {f"Python: {heading[0].lower()}{heading[1:]}": names for heading, names in found.items()}
    for heading, names in {**python, **last}.items():
        yield ""
        yield f"## {heading}"
        yield joined(names)
    yield ""
    yield "## Fonts"
    yield (
        "Every script that Noto has, Chinese, Japanese and Korean among them, and emoji in black and white."
        " Charts of matplotlib and of R find the right one by themselves."
    )


def prompt():
    found = libraries()
    programs = found.pop("Programs", [])
    r_packages = found.pop("R", [])
    python = [pair for names in found.values() for pair in names]
    says = {
        "Python": "with " + joined(python) + ". pandas reads and writes Parquet.",
        "R": "with " + joined(r_packages) + ".",
        "SQL": "over the files of /workspace, by path (FROM 'a b.csv') or, for CSV, JSON and Parquet,"
        " by name (FROM a_b), and over tables that stay in the thread;"
        " COPY … TO 'outputs/x.parquet' writes. No extensions.",
        "Bash": "with " + joined(programs) + ".",
        "JavaScript and TypeScript": "in one kernel, with Deno's and Node's own modules. No npm, jsr or URLs.",
    }
    for language, program, version in languages():
        yield f"- {language}: {program} {version} {says[language]}"


def joined(names):
    return ", ".join(f"{name} {version}" for name, version in names)


print("\n".join(prompt() if "--prompt" in sys.argv[1:] else page()))
