//! `make chaos MINUTES=30 SEED=…`; three minutes of it in `make test`.
#![expect(clippy::disallowed_methods, reason = "the length of a run and its seed are in the environment")]

use std::time::Duration;

use anabranch_e2e::chaos;
use anyhow::Result;

fn number(name: &str) -> Result<Option<u64>> {
    Ok(std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_exact_whatever_goes_wrong() -> Result<()> {
    let minutes = number("MINUTES")?.unwrap_or(3);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let seed = number("SEED")?.unwrap_or(now);
    let summary = chaos::run(seed, Duration::from_secs(minutes * 60)).await?;
    println!("seed {seed}, {minutes} minutes");
    for (kind, count) in &summary.faults {
        println!("{count:>4}  {kind}");
    }
    let faults: usize = summary.faults.values().sum();
    println!("{faults} faults, {} answers, {} cells compared, 0 wrong", summary.answers, summary.cells);
    println!("{} records committed, all archived; fresh again at most {:.1} s after everything was healed", summary.records, summary.slowest.as_secs_f64());
    assert!(faults >= usize::try_from(minutes)? * 10, "{faults} faults");
    assert!(summary.cells > 100_000, "{} cells", summary.cells);
    Ok(())
}
