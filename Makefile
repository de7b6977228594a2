# Targets: make help
.DEFAULT_GOAL := all
BUILD ?= build
CC ?= gcc
CACHE ?= $(or $(KB_CACHE),$(HOME)/.cache/kafka-backup)
export PKG_CONFIG_PATH := $(CACHE)/deps/lib/pkgconfig:$(PKG_CONFIG_PATH)

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wsign-conversion -Wformat=2 -Wvla -Wcast-qual \
  -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes -Wundef -Wnull-dereference -Wswitch-enum
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -I. $(WARNINGS) -fstack-protector-strong -D_FORTIFY_SOURCE=3 -fPIE \
  -pthread -MMD -MP $(PACKAGE_CFLAGS) $(EXTRA_CFLAGS) $(CFLAGS)
PACKAGES := rdkafka libcurl jansson libzstd libcrypto libssl yaml-0.1 liblz4 zlib expat libmicrohttpd
PACKAGE_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -pthread $(EXTRA_LDFLAGS)

sources = $(filter-out $(1)/tests/% $(1)/fuzz/% $(1)/bench/% $(1)/testing/%,$(wildcard $(1)/*/*.c))
COMMON_SRC := $(call sources,common)
WORKER_SRC := $(call sources,worker)
object = $(patsubst %.c,$(BUILD)/%.o,$(1))

.PHONY: all
all: $(BUILD)/kafka-backup-worker

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c $< -o $@

$(BUILD)/libkbcommon.a: $(call object,$(COMMON_SRC))
	rm -f $@ && ar rcs $@ $^
$(BUILD)/libkbworker.a: $(call object,$(WORKER_SRC))
	rm -f $@ && ar rcs $@ $^
$(BUILD)/kafka-backup-worker: $(BUILD)/worker/main.o $(BUILD)/libkbworker.a $(BUILD)/libkbcommon.a
	$(CC) $(ALL_LDFLAGS) $^ $(PACKAGE_LIBS) -o $@

# Unit tests: one cmocka binary for each module.
$(BUILD)/common/tests/test_%: $(BUILD)/common/tests/test_%.o $(call object,$(wildcard common/testing/*.c)) $(BUILD)/libkbcommon.a
	$(CC) $(ALL_LDFLAGS) $^ $(PACKAGE_LIBS) -lcmocka -o $@
$(BUILD)/worker/tests/test_%: $(BUILD)/worker/tests/test_%.o $(call object,$(wildcard common/testing/*.c)) $(BUILD)/libkbworker.a $(BUILD)/libkbcommon.a
	$(CC) $(ALL_LDFLAGS) $^ $(PACKAGE_LIBS) -lcmocka -o $@

UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard common/tests/test_*.c worker/tests/test_*.c))
.PHONY: unit
unit: $(UNIT_TESTS)
	@for t in $^; do echo "$$t"; $$t || exit 1; done

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
