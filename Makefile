# What can be made: make help. Every target installs what it needs (scripts/deps) on a fresh Debian machine.
.DEFAULT_GOAL := all
SHELL := /bin/bash
BUILD ?= build
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
CACHE := $(or $(KB_CACHE),$(HOME)/.cache/kafka-backup)
# An instrumented build brings its own librdkafka, in <cache>/deps-KIND.
DEPS_KIND ?=
PREFIX := $(CACHE)/deps$(DEPS_KIND:%=-%)
export PKG_CONFIG_PATH := $(PREFIX)/lib/pkgconfig$(if $(PKG_CONFIG_PATH),:$(PKG_CONFIG_PATH))
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wsign-conversion -Wformat=2 -Wvla -Wcast-qual \
  -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes -Wundef -Wnull-dereference -Wswitch-enum
HARDENING ?= -fstack-protector-strong -D_FORTIFY_SOURCE=3 -fPIE
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -I. $(WARNINGS) $(HARDENING) -pthread -MMD -MP $(PACKAGE_CFLAGS) \
  $(EXTRA_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,--as-needed -Wl,-z,relro,-z,now,--as-needed -pthread $(EXTRA_LDFLAGS)
PACKAGES := rdkafka libcurl jansson libzstd libcrypto libssl yaml-0.1 liblz4 zlib expat libmicrohttpd

sources = $(filter-out $(1)/tests/% $(1)/fuzz/% $(1)/bench/% $(1)/testing/%,$(wildcard $(1)/*/*.c))
COMMON_SRC := $(call sources,common)
OPERATOR_SRC := $(call sources,operator)
WORKER_SRC := $(call sources,worker)
TESTING_SRC := $(wildcard common/testing/*.c)
TEST_SRC := $(wildcard common/tests/test_*.c operator/tests/test_*.c worker/tests/test_*.c)
FUZZ_SRC := $(wildcard common/fuzz/fuzz_*.c operator/fuzz/fuzz_*.c worker/fuzz/fuzz_*.c)
BENCH_SRC := $(wildcard worker/bench/*.c)
MAIN_SRC := $(wildcard operator/main.c worker/main.c)
object = $(patsubst %.c,$(BUILD)/%.o,$(1))
program = $(patsubst %.c,$(BUILD)/%,$(1))

# ---- targets for people ----
.PHONY: all help demo test unit integration lint format fuzz bench asan tsan coverage crds chart images e2e clean FORCE
all: $(MAIN_SRC:%/main.c=$(BUILD)/kafka-backup-%) ## the release build: build/kafka-backup-worker, build/kafka-backup-operator

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

demo: all ## real broker: back up, lose the topics, restore to a point in time, compare
	@scripts/deps lab
	@scripts/demo $(BUILD)/kafka-backup-worker

test: ## lint, unit and integration; last line "N passed, N failed"
	@+scripts/test

# The test build has failpoints; the release build does not contain them.
TEST_BUILD := $(BUILD)/test
TEST_MAKE = $(MAKE) --no-print-directory BUILD=$(TEST_BUILD) EXTRA_CFLAGS='-DKB_FAILPOINTS $(EXTRA_CFLAGS)'
unit: ## unit tests, one program for each module
	@scripts/deps build unit
	@+$(TEST_MAKE) test-programs
	@scripts/unit $(TEST_BUILD)

# Servers are built before the tests: it takes longer than one of them may.
integration: ## the built worker against real brokers; ARGS are given to pytest
	@scripts/deps build lab && scripts/tools helm >/dev/null && scripts/tools promtool >/dev/null
	@e2e/lab/stores-lab install >&2 && e2e/lab/kafka-lab install >&2
	@+$(TEST_MAKE) operator worker $(patsubst %.c,$(TEST_BUILD)/%,$(wildcard operator/tests/test_*_live.c \
	  worker/tests/test_*_live*.c) worker/tests/test_aws_sigv4.c)
	@scripts/integration $(TEST_BUILD)/kafka-backup-worker $(ARGS)

lint: ## layers, format, warnings under gcc and clang, clang-tidy, shellcheck, sizes
	@scripts/deps build unit lint
	@+scripts/lint

format: ## formats all C files in place
	@scripts/deps lint
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format-19 -i

fuzz: ## every parser for FUZZ_SECS (60) seconds under libFuzzer, ASan and UBSan
	@scripts/deps build fuzz
	@+$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang HARDENING= CFLAGS='-O1 -g' fuzz-programs \
	  EXTRA_CFLAGS='-DKB_FAILPOINTS $(SANITIZE) -fsanitize=fuzzer-no-link' EXTRA_LDFLAGS='$(SANITIZE)'
	@scripts/fuzz $(BUILD)/fuzz $(or $(FUZZ_SECS),60)

bench: all ## throughput, CPU seconds for a GiB and peak memory beside the parts measured alone
	@scripts/deps lab
	@+$(MAKE) --no-print-directory bench-programs
	@scripts/bench $(BUILD)

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
asan: ## unit and integration tests under AddressSanitizer and UBSan
	@+$(MAKE) --no-print-directory BUILD=$(BUILD)/asan HARDENING=-fPIE CFLAGS='-O1 -g' EXTRA_CFLAGS='$(SANITIZE)' \
	  EXTRA_LDFLAGS='$(SANITIZE)' unit
	@+$(MAKE) --no-print-directory BUILD=$(BUILD)/asan HARDENING=-fPIE CFLAGS='-O1 -g' EXTRA_CFLAGS='$(SANITIZE)' \
	  EXTRA_LDFLAGS='$(SANITIZE)' integration

# librdkafka is built with it too: a library that the tool cannot see into would hide and invent races.
tsan: ## unit tests and pipelines (integration tests marked tsan) under ThreadSanitizer
	@scripts/deps tsan
	@+$(MAKE) --no-print-directory DEPS_KIND=tsan BUILD=$(BUILD)/tsan HARDENING=-fPIE CFLAGS='-O1 -g' \
	  EXTRA_CFLAGS=-fsanitize=thread EXTRA_LDFLAGS=-fsanitize=thread unit
	@+$(MAKE) --no-print-directory DEPS_KIND=tsan BUILD=$(BUILD)/tsan HARDENING=-fPIE CFLAGS='-O1 -g' \
	  EXTRA_CFLAGS=-fsanitize=thread EXTRA_LDFLAGS=-fsanitize=thread ARGS='-m tsan $(ARGS)' integration

coverage: ## lines covered by unit and integration tests, file by file
	@rm -rf $(BUILD)/coverage/test/{common,operator,worker}
	@+$(MAKE) --no-print-directory BUILD=$(BUILD)/coverage HARDENING=-fPIE CFLAGS='-O0 -g' EXTRA_CFLAGS=--coverage \
	  EXTRA_LDFLAGS=--coverage unit
	@+$(MAKE) --no-print-directory BUILD=$(BUILD)/coverage HARDENING=-fPIE CFLAGS='-O0 -g' EXTRA_CFLAGS=--coverage \
	  EXTRA_LDFLAGS=--coverage integration
	@scripts/coverage $(BUILD)/coverage/test

crds: ## custom resource definitions and their JSON schemas, from crds/source/
	@scripts/deps lab
	@scripts/crds

chart: ## packs the Helm chart and makes all.yaml, into build/chart
	@scripts/chart $(BUILD)/chart

images: ## container images of operator and worker, by docker or podman; archives in build/images
	@scripts/images $(BUILD)/images

e2e: ## builds the images and runs the flows on a whole Kubernetes node (root); ARGS are given to pytest
	@scripts/deps build lab
	@scripts/images $(BUILD)/images
	@KB_IMAGE_ARCHIVES=$(abspath $(BUILD)/images) scripts/e2e $(ARGS)

clean: ## removes build/ (the cache stays: ~/.cache/kafka-backup)
	rm -rf $(BUILD)

# ---- how things are built ----
# Flags of the packages are asked for after scripts/deps ran, so that one make is enough on a fresh machine:
# make builds this file, reads it and starts over when it has changed.
ifneq ($(filter-out help clean crds chart images e2e test unit integration lint format fuzz asan tsan coverage,$(or $(MAKECMDGOALS),all)),)
include $(BUILD)/packages.mk
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
endif
# Replaces a generated file only if it changed.
keep_if_same = if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(BUILD)/packages.mk: FORCE
	@mkdir -p $(@D) && scripts/deps build $(DEPS_KIND)
	@{ echo "PACKAGE_CFLAGS := $$(pkg-config --cflags $(PACKAGES))" && \
	  echo "PACKAGE_LIBS := $$(pkg-config --libs $(PACKAGES))" && \
	  echo "PACKAGE_VERSIONS := $$(pkg-config --modversion $(PACKAGES) | tr '\n' ' ')" && \
	  pkg-config --exists --print-errors $(PACKAGES); } >$@.new
	@$(keep_if_same)
# Other flags or packages than last time: everything is compiled again.
$(BUILD)/flags: FORCE | $(BUILD)/packages.mk
	@printf '%s\n' '$(CC) $(ALL_CFLAGS)' '$(ALL_LDFLAGS) $(PACKAGE_LIBS)' '$(PACKAGE_VERSIONS)' >$@.new
	@$(keep_if_same)

# V=1 shows whole commands.
Q := $(if $(V),,@)
$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "CC $@")
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@
# Beside the object, which is as old as the youngest file that it was made from. The analyzer stays inside of a
# function: it cannot know that a failure is never KB_OK, and would invent paths through callees.
$(BUILD)/%.tidy: $(BUILD)/%.o .clang-tidy
	$(if $(V),,@echo "TIDY $*.c")
	$(Q)clang-tidy --quiet $*.c -- -Xclang -analyzer-config -Xclang ipa=none $(filter-out -MMD -MP,$(ALL_CFLAGS)) 2>$@.err || { cat $@.err; exit 1; }
	@touch $@

ALL_SRC := $(COMMON_SRC) $(OPERATOR_SRC) $(WORKER_SRC) $(MAIN_SRC) $(TESTING_SRC) $(TEST_SRC) $(FUZZ_SRC) $(BENCH_SRC)
.PHONY: operator worker objects tidy test-programs fuzz-programs bench-programs
operator: $(BUILD)/kafka-backup-operator
worker: $(BUILD)/kafka-backup-worker
objects: $(call object,$(ALL_SRC))
tidy: $(patsubst %.c,$(BUILD)/%.tidy,$(COMMON_SRC) $(OPERATOR_SRC) $(WORKER_SRC) $(MAIN_SRC) $(TESTING_SRC))
test-programs: $(call program,$(TEST_SRC))
fuzz-programs: $(call program,$(FUZZ_SRC))
bench-programs: $(call program,$(BENCH_SRC))

LIB_COMMON := $(BUILD)/libkbcommon.a
LIB_OPERATOR := $(BUILD)/libkboperator.a
LIB_WORKER := $(BUILD)/libkbworker.a
TESTING := $(call object,$(TESTING_SRC))
# What several tests of one part share.
OPERATOR_TESTING := $(call object,$(filter-out operator/tests/test_%,$(wildcard operator/tests/*.c)))
WORKER_TESTING := $(call object,$(filter-out worker/tests/test_%,$(wildcard worker/tests/*.c)))
$(LIB_COMMON): $(call object,$(COMMON_SRC))
$(LIB_OPERATOR): $(call object,$(OPERATOR_SRC))
$(LIB_WORKER): $(call object,$(WORKER_SRC))
$(LIB_COMMON) $(LIB_OPERATOR) $(LIB_WORKER):
	@rm -f $@ && ar rcs $@ $^

LINK = $(if $(V),,@echo "LINK $@" &&) $(CC) $(ALL_LDFLAGS) $^ $(1) $(PACKAGE_LIBS) -o $@
$(BUILD)/kafka-backup-operator: $(BUILD)/operator/main.o $(LIB_OPERATOR) $(LIB_COMMON)
	$(call LINK)
$(BUILD)/kafka-backup-worker: $(BUILD)/worker/main.o $(LIB_WORKER) $(LIB_COMMON)
	$(call LINK)
$(BUILD)/common/tests/test_%: $(BUILD)/common/tests/test_%.o $(TESTING) $(LIB_COMMON)
	$(call LINK,-lcmocka)
$(BUILD)/operator/tests/test_%: $(BUILD)/operator/tests/test_%.o $(OPERATOR_TESTING) $(TESTING) $(LIB_OPERATOR) $(LIB_COMMON)
	$(call LINK,-lcmocka)
$(BUILD)/worker/tests/test_%: $(BUILD)/worker/tests/test_%.o $(WORKER_TESTING) $(TESTING) $(LIB_WORKER) $(LIB_COMMON)
	$(call LINK,-lcmocka)
$(BUILD)/common/fuzz/fuzz_%: $(BUILD)/common/fuzz/fuzz_%.o $(TESTING) $(LIB_COMMON)
	$(call LINK,-fsanitize=fuzzer)
$(BUILD)/operator/fuzz/fuzz_%: $(BUILD)/operator/fuzz/fuzz_%.o $(TESTING) $(LIB_OPERATOR) $(LIB_COMMON)
	$(call LINK,-fsanitize=fuzzer)
$(BUILD)/worker/fuzz/fuzz_%: $(BUILD)/worker/fuzz/fuzz_%.o $(TESTING) $(LIB_WORKER) $(LIB_COMMON)
	$(call LINK,-fsanitize=fuzzer)
$(BUILD)/worker/bench/%: $(BUILD)/worker/bench/%.o $(LIB_WORKER) $(LIB_COMMON)
	$(call LINK)
.SECONDARY:
