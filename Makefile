# Pillion. `make help` lists what there is.
#
# CC CFLAGS CPPFLAGS LDFLAGS LDLIBS PREFIX DESTDIR belong to whoever packages this; what the project itself needs is added
# with other names. MODE=release|asan|tsan|cov|fuzz|fault chooses the build, WERROR=1 makes warnings errors.

MODE ?= release
B := build/$(MODE)
VERSION := $(shell cat VERSION)
PREFIX ?= /usr/local
PKG_CONFIG ?= pkg-config
PACKAGES := libuv jansson zlib libmicrohttpd libcurl librabbitmq libssl libcrypto

CFLAGS ?= -O2 -g
P_CPPFLAGS := -I. -D_GNU_SOURCE -DPILLION_VERSION='"$(VERSION)"'
P_CFLAGS := -std=c11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
	-Wvla -Wno-missing-field-initializers -fno-common -fstack-protector-strong -fPIE -ffile-prefix-map=$(CURDIR)=. \
	-ffunction-sections -fdata-sections
P_LDFLAGS := -pie -Wl,-z,relro,-z,now -Wl,--gc-sections -Wl,--as-needed
P_LDLIBS = $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null) -lm -lpthread
P_CPPFLAGS += $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)

ifeq ($(MODE),release)
P_CPPFLAGS += -D_FORTIFY_SOURCE=2
else ifeq ($(MODE),asan)
P_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
P_LDFLAGS += -fsanitize=address,undefined
else ifeq ($(MODE),tsan)
P_CFLAGS += -fsanitize=thread
P_LDFLAGS += -fsanitize=thread
else ifeq ($(MODE),cov)
P_CFLAGS += --coverage -O0
P_LDFLAGS += --coverage
else ifeq ($(MODE),fuzz)
P_CFLAGS += -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
P_LDFLAGS += -fsanitize=address,undefined
else ifeq ($(MODE),fault)
# For tests only: FAULT_POINT=<name>:<n> kills the helper at this place (uploader/spool/fault.h).
P_CPPFLAGS += -D_FORTIFY_SOURCE=2 -DPILLION_FAULTS
else ifeq ($(MODE),static)
# Called by packaging/static/build.sh with the compiler and the libraries of its sysroot.
P_CPPFLAGS += -DPILLION_STATIC
P_CFLAGS += -fno-semantic-interposition
P_LDFLAGS := -static-pie -Wl,-z,pack-relative-relocs -Wl,-z,relro,-z,now -Wl,--gc-sections
else
$(error MODE=$(MODE) is not known; there are release, asan, tsan, cov, fuzz, fault and static)
endif
# What a sanitizer puts in between makes gcc warn of things that are not there: not in those modes.
ifeq ($(WERROR)$(filter asan tsan cov fuzz,$(MODE)),1)
P_CFLAGS += -Werror
endif

SOURCES := $(sort $(wildcard agent/*.c agent/*/*.c ipc/*.c collectors/*.c collectors/*/*.c uploader/*.c uploader/*/*.c))
OBJECTS := $(SOURCES:%.c=$(B)/%.o)
LIB_OBJECTS := $(filter-out $(B)/agent/main.o,$(OBJECTS))
EMBEDDED := $(wildcard collectors/node/*.js collectors/node/fork/*.js agent/init/*.js)
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(sort $(wildcard tests/unit/test_*.c)))

.PHONY: all
all: $(B)/pillion ## build build/$(MODE)/pillion (MODE=release|asan|tsan|cov)

# Flags that differ from those of the last build make everything again.
FLAGS_NOW := $(CC) $(P_CPPFLAGS) $(CPPFLAGS) $(P_CFLAGS) $(CFLAGS) $(P_LDFLAGS) $(LDFLAGS) $(LDLIBS)
$(shell mkdir -p $(B); printf '%s' '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $(B)/flags || printf '%s' '$(subst ','\'',$(FLAGS_NOW))' > $(B)/flags)

# V=1 shows the commands.
ifeq ($(V),1)
run = $(2)
else
run = @printf '  %-5s %s\n' '$(1)' '$@' && $(2)
endif

# Objects of tests are nobody's final target; without this make would remove them after each build.
.SECONDARY:

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call run,CC,$(CC) $(P_CPPFLAGS) $(CPPFLAGS) $(P_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@)

# What takes heap snapshots from a child (collectors/node/fork/): an add-on without any library, the same for glibc and musl.
# On a processor that it does not know it is empty, and snapshots are refused with that reason.
FORK_NODE := $(B)/collectors/node/fork/snapshot.node
FORK_FLAGS := -I. -std=c11 -O2 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -shared -nostdlib -ffreestanding \
	-fPIC -fvisibility=hidden -fno-stack-protector -fno-builtin -s -Wl,--hash-style=gnu,--build-id=none -Wl,-z,relro,-z,now,-z,noexecstack

$(FORK_NODE): collectors/node/fork/snapshot.c $(wildcard collectors/node/fork/*.h) $(B)/flags
	@mkdir -p $(@D)
	$(call run,NODE,case "$$($(CC) -dumpmachine)" in (x86_64-*|aarch64-*) $(CC) $(FORK_FLAGS) $< -o $@ ;; (*) : >$@ ;; esac)

$(B)/agent/embedded.o: $(EMBEDDED) $(FORK_NODE)
$(B)/agent/embedded.o: private P_CPPFLAGS += -DPILLION_FORK_NODE='"$(FORK_NODE)"'
$(B)/collectors/flamegraph/page.o: $(wildcard collectors/flamegraph/page/*)

$(B)/pillion: $(OBJECTS)
	$(call run,LINK,$(CC) $(P_CFLAGS) $(CFLAGS) $(P_LDFLAGS) $(LDFLAGS) $^ $(P_LDLIBS) $(LDLIBS) -o $@)

$(B)/tests/unit/%: $(B)/tests/unit/%.o $(LIB_OBJECTS)
	$(call run,LINK,$(CC) $(P_CFLAGS) $(CFLAGS) $(P_LDFLAGS) $(LDFLAGS) $^ $(P_LDLIBS) -lcmocka $(LDLIBS) -o $@)

$(B)/tests/services/%: $(B)/tests/services/%.o $(LIB_OBJECTS)
	$(call run,LINK,$(CC) $(P_CFLAGS) $(CFLAGS) $(P_LDFLAGS) $(LDFLAGS) $^ $(P_LDLIBS) $(LDLIBS) -o $@)

$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(LIB_OBJECTS)
	$(call run,LINK,$(CC) $(P_CFLAGS) $(CFLAGS) $(P_LDFLAGS) -fsanitize=fuzzer $(LDFLAGS) $^ $(P_LDLIBS) $(LDLIBS) -o $@)

-include $(OBJECTS:.o=.d) $(UNIT_TESTS:=.d) $(FUZZERS:=.d)

# The targets for people call make again: only then have `deps` done their work before pkg-config is asked.
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
AGAIN := $(MAKE) --no-print-directory -j$(JOBS)
FUZZ_DIR ?= build/fuzz
FAULT_DIR ?= build/fault
COV_DIR ?= build/cov

.PHONY: deps
deps: ## install what build, tests and lint need (Debian, Ubuntu)
	@packaging/deps.sh build test lint fuzz

.PHONY: demo
demo: ## a clustered app under load, seen through pillion; installs what is missing
	@packaging/deps.sh build node
	@$(AGAIN) all
	@node demo/run.js $(abspath $(B)/pillion)

.PHONY: demo-full
demo-full: ## the demo with a real Consul and OpenSearch, built once into a cache: who is registered, each worker's series
	@packaging/deps.sh build node services
	@tests/services/consul/build.sh
	@tests/services/opensearch/build.sh
	@$(AGAIN) all
	@node demo/full.js $(abspath $(B)/pillion)

.PHONY: test
test: ## all tests; installs what is missing; the last line sums up
	@packaging/deps.sh build test
	@$(AGAIN) test-programs
	@$(AGAIN) MODE=fault B=$(FAULT_DIR) all
	@B=$(B) FAULT_DIR=$(FAULT_DIR) tests/run unit integration

.PHONY: unit
unit: ## the unit tests alone
	@$(AGAIN) test-programs
	@B=$(B) tests/run unit

.PHONY: integration
integration: ## the integration tests alone
	@$(AGAIN) all
	@$(AGAIN) MODE=fault B=$(FAULT_DIR) all
	@B=$(B) FAULT_DIR=$(FAULT_DIR) tests/run integration

.PHONY: test-services
test-services: ## against real Consul, Eureka, OpenSearch, Elasticsearch, OpenTelemetry Collector, built once into a cache
	@packaging/deps.sh build test
	@packaging/deps.sh services || echo "services: what cannot be built here is skipped"
	@$(AGAIN) all $(B)/tests/services/notifier
	@B=$(B) NOTIFIER=$(abspath $(B))/tests/services/notifier tests/run services

.PHONY: chaos
chaos: ## 1,000 kills at random and 20 at each fault point, with an oracle: missing 0, foreign 0, corrupt 0
	@$(AGAIN) MODE=fault B=$(FAULT_DIR) all
	@CHAOS_KILLS=$${CHAOS_KILLS:-1000} CHAOS_FAULTS=$${CHAOS_FAULTS:-20} PILLION_FAULT_BIN=$(abspath $(FAULT_DIR))/pillion \
		node --test tests/integration/spool.test.js

.PHONY: test-programs
test-programs: all $(UNIT_TESTS)

.PHONY: lint
lint: ## form, house rules, boundaries, documents
	@packaging/deps.sh build lint
	@$(AGAIN) all
	@tests/lint $(B)/pillion

.PHONY: fuzz
fuzz: ## every parser with sanitizers; SECONDS=60 for each, else a minute in all
	@packaging/deps.sh build fuzz
	@$(AGAIN) MODE=fuzz B=$(FUZZ_DIR) CC=clang CFLAGS='-O1 -g' fuzz-programs
	@tests/fuzz/run $(FUZZ_DIR)/tests/fuzz $(SECONDS)

.PHONY: fuzz-programs
fuzz-programs: $(FUZZERS)

.PHONY: bench
bench: ## what it costs, beside what others cost; writes docs/BENCHMARKS.md
	@packaging/deps.sh build bench
	@$(AGAIN) all
	@node tests/bench/run.js --write

.PHONY: bench-smoke
bench-smoke: ## the same in under three minutes, without writing
	@packaging/deps.sh build bench
	@$(AGAIN) all
	@node tests/bench/run.js --smoke

AARCH64_CC ?= aarch64-linux-gnu-gcc
.PHONY: fork-aarch64
fork-aarch64: ## the native part of heap snapshots for aarch64, with a cross compiler: that it compiles
	@mkdir -p $(B)/collectors/node/fork
	$(call run,NODE,$(AARCH64_CC) $(FORK_FLAGS) collectors/node/fork/snapshot.c -o $(B)/collectors/node/fork/snapshot-aarch64.node)

.PHONY: coverage
coverage: ## which lines the unit tests reach, file by file
	@$(AGAIN) MODE=cov B=$(COV_DIR) test-programs
	@B=$(COV_DIR) tests/run unit
	@tests/coverage $(COV_DIR)

.PHONY: docs
docs: all ## write the configuration table into README and man page
	@docs/update $(B)/pillion

.PHONY: recording
recording: all ## make docs/top.svg again, from a real run
	@node docs/record.js $(abspath $(B)/pillion)

.PHONY: install
install: all ## program, man page and completions below $(DESTDIR)$(PREFIX)
	install -D -m 755 $(B)/pillion $(DESTDIR)$(PREFIX)/bin/pillion
	install -D -m 644 packaging/man/pillion.1 $(DESTDIR)$(PREFIX)/share/man/man1/pillion.1
	install -D -m 644 packaging/completions/pillion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pillion
	install -D -m 644 packaging/completions/_pillion $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_pillion
	install -D -m 644 packaging/completions/pillion.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pillion.fish

.PHONY: dist
dist: ## the static release program
	@packaging/deps.sh build dist
	@packaging/static/build.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf build

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
