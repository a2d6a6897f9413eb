//! The program `homeostat`: command line, HTTP, serving, jobs and the applying of plans. Only here is HTTP known.

mod alerts;
mod artifact;
mod cli;
mod client;
mod clock;
mod command;
mod explain;
mod imported;
mod input;
mod joins;
mod openslo;
mod output;
mod parts;
mod playbooks;
mod project;
mod quarantine;
#[cfg(test)]
mod quiet;
mod routing;
mod row_bytes;
mod runs;
mod screening;
mod searches;
mod serve;
mod snapshot;
mod streamed;
mod streams;
mod traced;
mod training;
mod transforms;
mod windows;

use clap::Parser;
use std::process::ExitCode;

/// Done, and the answer is no.
pub const EXIT_NO: u8 = 1;
/// Could not be done.
pub const EXIT_FAILED: u8 = 3;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    output::start_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: can't start threads: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let json = cli.global.json;
    let outcome = runtime.block_on(command::run(cli));
    runtime.shutdown_background();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NO),
        Err(error) => {
            let text = format!("{error:#}");
            if json {
                println!("{}", serde_json::json!({ "error": text }));
            }
            eprintln!("error: {text}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
