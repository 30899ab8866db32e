# What e2e/kubernetes/image-root collected, and nothing else; `make image` builds it.
FROM scratch
COPY . /
