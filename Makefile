# make demo | test | test-all | test-docker | chaos | bench | dashboard | up | down | doctor. SET=name and DATANODES=n choose and shape a set of servers.
SHELL := /bin/bash
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/debug

.PHONY: demo test test-all test-docker chaos bench build dashboard up down doctor

build: dashboard
	cargo build --workspace --bins --lib --tests

dashboard:
	dev/dashboard

up:
	dev/servers up

down:
	dev/servers down

doctor:
	dev/servers doctor

demo:
	dev/demo

test:
	dev/test

test-docker:
	dev/test-docker

test-all:
	dev/test all

# MINUTES=30, and SEED=… to repeat a run.
chaos: export MINUTES ?= 30
chaos: export SEED ?=
chaos:
	dev/test chaos

# SECTIONS="layers spark" measures these alone; EVENTS=3000000.
bench:
	bench/run $(SECTIONS) --events $(or $(EVENTS),3000000)
