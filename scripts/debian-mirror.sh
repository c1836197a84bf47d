#!/bin/sh
# Prints the Debian archive that this machine uses: the first one named in its apt sources, one-line or deb822, that is
# not the one for security updates. Nothing when there is none.
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -n -e 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([a-z+]*:[^ ]*\) .*/\2/p' -e 's/^URIs: *\([^ ]*\).*/\1/p' |
    grep -v -e security -e updates | grep -e '/debian/*$' | head -n 1
