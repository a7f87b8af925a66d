//! `anabranch`: a lambda architecture in one program.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints its result")]

use std::process::ExitCode;

use clap::Parser;

mod arguments;
mod commands;
mod ddl;
mod infer;
mod maintenance;
mod query;
mod rejected;
mod reset;
mod show;
mod simulate;
mod tail;
mod topic;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    anabranch_process::telemetry::start();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => commands::report(&error),
    }
}
