#!/bin/sh
# Installs the Debian packages that a list names, in a step of the Dockerfile.
#
#   install.sh LIST
set -eu

# Left out: what nobody reads in a sandbox (manuals, translations, the libraries' own tests with
# their reference pictures, the headers of C++ libraries), and things that only debuggers, font
# tools and desktops would look into. The base keeps its manuals out when it is pulled, but not
# when it was made from packages.
cat >/etc/dpkg/dpkg.cfg.d/threadbook <<'END'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/unicode/*
path-exclude=/usr/share/icons/*
path-exclude=/usr/share/javascript/mathjax/*
path-exclude=/usr/lib/R/*library/*/doc/*
path-exclude=/usr/lib/R/*library/*/html/*
path-exclude=/usr/lib/R/*library/*/include/*
path-exclude=/usr/lib/R/*library/*/po/*
path-exclude=/usr/lib/R/*library/*/tests/*
path-exclude=/usr/bin/gdb
force-unsafe-io
END

# ca-bundle.crt holds the build machine's certificates: see the Dockerfile.
ca=$(dirname "$0")/ca-bundle.crt
if [ -s "$ca" ]; then
  echo "Acquire::https::CaInfo \"$ca\";" >/etc/apt/apt.conf.d/99build
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update
sed 's/#.*//' "$1" | xargs apt-get install -y --no-install-recommends

# Of those libraries whose other parts don't import their tests.
cd /usr/lib/python3/dist-packages
for library in geopandas matplotlib mpl_toolkits networkx pandas scipy skimage sklearn statsmodels sympy; do
  [ ! -d "$library" ] || find "$library" -type d -name tests -prune -exec rm -rf {} +
done
rm -rf /etc/apt/apt.conf.d/99build /var/lib/apt/lists/* /var/cache/* /var/log/*
