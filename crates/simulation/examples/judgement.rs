//! Null months and changes, by the thousand: how often do the monitors cry wolf, how soon do they find what changed, and do
//! they call it by its name? Prints a table; ends with 1 when a target is missed.
//!
//! `cargo run --release -p simulation --example judgement -- [NULL_MONTHS] [WORLDS_A_CHANGE]`

use simulation::features::trials::{named_changes, quiet_month, search};
use simulation::features::{Change, WorldOptions};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Ok(months), Ok(worlds)) = (arguments.next().unwrap_or(Ok(1000)), arguments.next().unwrap_or(Ok(100))) else {
        eprintln!("usage: judgement [NULL_MONTHS] [WORLDS_A_CHANGE], both whole numbers");
        return ExitCode::from(2);
    };
    let mut missed = false;
    let mut target = |met: bool| {
        missed |= !met;
        if met { "met" } else { "MISSED" }
    };
    if months > 0 {
        let loud = (0..months).filter(|seed| loud(*seed)).count();
        let share = loud as f64 / months as f64;
        println!("| null months | with an alarm | share | target <= 5 % |\n|---|---|---|---|");
        println!("| {months} | {loud} | {:.1} % | {} |\n", 100.0 * share, target(share <= 0.05));
    }
    println!(
        "| change | worlds | found | named | rows (median, worst) | hours (median) | dated off (median h) | target |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let shift = Change::Shift { feature: 30, sigma: 0.2 };
    let shift = [("shift of .2 sigma in one of 50", shift, 90)];
    let named = named_changes().into_iter().map(|(name, change)| (name, change, 24));
    for (name, change, hours) in shift.into_iter().chain(named) {
        let found: Vec<_> = (0..worlds)
            .map(|seed| search(WorldOptions { seed: 10_000 + seed, ..WorldOptions::default() }, &change, 240, hours))
            .collect();
        let mut rows: Vec<usize> = found.iter().filter_map(|found| found.rows).collect();
        let mut hours: Vec<i64> = found.iter().filter_map(|found| found.hours).collect();
        let mut dated: Vec<i64> = found.iter().filter_map(|found| found.dated_off).collect();
        rows.sort_unstable();
        hours.sort_unstable();
        dated.sort_unstable();
        let (middle, worst) = (rows.get(rows.len() / 2), rows.last());
        let in_time = rows.iter().filter(|rows| **rows <= 3000).count();
        let right = found.iter().filter(|found| found.named).count();
        let enough = |count: usize| count as u64 * 100 >= worlds * 95;
        println!(
            "| {name} | {worlds} | {in_time} | {right} | {middle:?}, {worst:?} | {:?} | {:?} | {} |",
            hours.get(hours.len() / 2),
            dated.get(dated.len() / 2),
            target(enough(in_time) && enough(right))
        );
        if let Some(other) = found.iter().find(|found| !found.named) {
            println!("    not named: {:?}", other.said);
        }
    }
    ExitCode::from(u8::from(missed))
}

fn loud(seed: u64) -> bool {
    let found = quiet_month(WorldOptions { seed, ..WorldOptions::default() });
    for finding in &found {
        println!("    month {seed}: {} (certain at {})", finding.message, finding.at);
    }
    !found.is_empty()
}
