# All programs, static, and nothing else; `make image` builds it.
FROM scratch
COPY tortie tortie-bgp tortie-cni tortie-controller tortie-felix /usr/bin/
