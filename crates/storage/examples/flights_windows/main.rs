//! A year of departures in a seeded disorder: are the windows on-line those of the backfill?
//! `cargo run --release -p storage --example flights_windows [flights.parquet] [events] [seed]`

mod parity;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().map_or_else(|| PathBuf::from("examples/flights/data/flights.parquet"), PathBuf::from);
    let most = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let seed = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let events = match parity::departures(&file, most) {
        Ok(events) => events,
        Err(error) => {
            eprintln!("{error}; give the file as the first argument");
            return ExitCode::from(3);
        }
    };
    let begun = Instant::now();
    let found = parity::measure(&events, seed);
    println!("{found:#?}");
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    let all = found.differences == 0
        && found.astray == 0
        && found.very_late.planted == found.very_late.counted
        && found.duplicates.planted == found.duplicates.counted;
    println!("{}", if all { "no value differs, and all is where it belongs" } else { "NOT all is well" });
    if all { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
