# make demo | test | up | down | doctor. SET=name and DATANODES=n choose and shape a set of servers.
SHELL := /bin/bash
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/debug

.PHONY: demo test build up down doctor

build:
	cargo build --workspace --bins --lib --tests

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
