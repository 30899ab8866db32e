# Each recipe is a command one could type. What it needs from Debian it installs
# (as root) or names.

DEMO_PACKAGES := bird2 iproute2 iputils-ping procps tcpdump traceroute
# What e2e/vm needs where the kernel has no ipip.
VM_PACKAGES := busybox-static kmod qemu-system-x86 xz-utils
TEST_PACKAGES := $(DEMO_PACKAGES) $(VM_PACKAGES) conntrack containernetworking-plugins \
	exabgp frr gobgpd iperf3 iptables netbase nftables
CLUSTER_PACKAGES := buildah busybox-static containerd etcd-server openssl runc
FUZZ_CASES ?= 2000000
FUZZ_SECONDS ?= 300

IMAGE ?= localhost/tortie:$(shell sed -n 's/^appVersion: //p' charts/tortie/Chart.yaml)
# The plugin is copied to nodes of any kind, so it is static.
PLUGIN_TARGET ?= $(shell uname -m)-unknown-linux-gnu

.PHONY: build clean crds demo e2e e2e-api e2e-kubernetes bench fmt fuzz fuzz-guided image lint packages test

build:
	cargo build --release --locked --workspace --bins

# KEEP=1 leaves the lab running, CLEAN=1 only removes one that was left.
# ENCAP=ipip joins subnets by IPIP instead of VXLAN, where needed in an emulated machine. That one is slow and needs
# optimised programs; elsewhere what `make test` builds serves too, as it is the kernel that forwards.
IPIP := $(filter ipip,$(ENCAP))
demo:
	./e2e/packages $(DEMO_PACKAGES) $(if $(IPIP),$(VM_PACKAGES))
	cargo build $(if $(IPIP),--release) --locked --workspace --bins
	$(if $(IPIP),./e2e/vm/run )./target/$(if $(IPIP),release,debug)/demo $(if $(ENCAP),--encap $(ENCAP)) $(if $(KEEP),--keep) $(if $(CLEAN),--clean)

# Unit, model, kernel and lab tests; says how many ran.
test: packages
	cargo build --locked --workspace --bins
	./.ci/count-tests cargo test --locked --workspace --no-fail-fast

# Only the lab: real binaries, real peers.
e2e: packages
	cargo build --locked --workspace --bins
	cargo test --locked --package e2e

# What needs a real API server and no node: CRDs, chart, datastore, agents, controllers. Its programs are built once,
# into a cache.
e2e-api: packages
	./e2e/packages etcd-server openssl
	./e2e/kubernetes/get-tools kube-apiserver kubectl
	cargo build --locked --workspace --bins
	./target/debug/api-server ./e2e/kubernetes/crds-test
	./target/debug/api-server ./e2e/kubernetes/chart-test --server
	./target/debug/api-server cargo test --locked --package datastore --test kubernetes
	cargo test --locked --package e2e --test kubernetes --test controller --test node_life --test topology

# A real cluster with three nodes, our image and our chart.
e2e-kubernetes: packages
	./e2e/packages $(CLUSTER_PACKAGES)
	./e2e/kubernetes/get-tools kube-apiserver kubectl kube-controller-manager kube-scheduler kubelet kube-proxy
	./e2e/kubernetes/get-helm 3
	cargo build --locked --workspace --bins
	cargo test --locked --package e2e --test cluster

bench:
	./e2e/packages $(TEST_PACKAGES) $(if $(filter cluster,$(BENCH)),$(CLUSTER_PACKAGES))
	cargo build --release --locked --workspace --bins --examples
	./target/release/bench $(BENCH)

# Mutated messages and random event sequences, two million each.
fuzz:
	TORTIE_FUZZ_CASES=$(FUZZ_CASES) cargo test --release --locked --package bgp-wire --test mutation -- --nocapture
	TORTIE_FUZZ_CASES=$(FUZZ_CASES) cargo test --release --locked --package bgp-fsm --test any_sequence -- --nocapture
	TORTIE_FUZZ_CASES=$(FUZZ_CASES) cargo test --release --locked --package bfd --test any_sequence -- --nocapture

# cargo-fuzz, each target for FUZZ_SECONDS; what is found goes to bgp/wire/fuzz/artifacts.
fuzz-guided:
	command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
	for target in bfd decode fsm open; do \
		mkdir -p target/fuzz/$$target && \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir bgp/wire/fuzz --sanitizer none $$target \
			target/fuzz/$$target bgp/wire/fuzz/corpus/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --package datastore --package e2e --test kubernetes --test controller --test cluster --test node_life --test topology -- -D warnings
	./.ci/pure
	./.ci/alone
	command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
	cargo deny --log-level error check bans licenses sources

fmt:
	cargo fmt --all

crds:
	cargo run --quiet --package crds --bin crds

# The container image, in the storage of buildah: our programs and the libraries they need, nothing else.
image:
	./e2e/packages buildah
	cargo build --release --locked --workspace --bins
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target $(PLUGIN_TARGET) --package cni --bins
	./e2e/kubernetes/image-root target/release target/image target/$(PLUGIN_TARGET)/release/tortie-cni
	buildah bud --quiet --file Dockerfile --tag $(IMAGE) target/image
	buildah images --format '{{.Name}}:{{.Tag}} {{.Size}}' $(IMAGE)

packages:
	./e2e/packages $(TEST_PACKAGES)

clean:
	cargo clean
