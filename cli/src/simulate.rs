//! `anabranch simulate`: events to Kafka or to a file.

use std::{path::Path, process::ExitCode};

use anabranch_process::{Settings, failure::Unreachable, kafka};
use anabranch_simulate::{Event, file, kafka as producing, music, server_status};
use anyhow::{Context, Result};

use crate::{arguments::Domain, commands::stop_on_signal};

const DEFAULT_AGE_DAYS: i64 = 30;

pub(crate) async fn run(settings: &Settings, domain: Domain) -> Result<ExitCode> {
    #[expect(clippy::disallowed_methods, reason = "now is the default of --start")]
    let now = chrono::Utc::now();
    match domain {
        Domain::ServerStatus { rate, seed, start, count, late, malformed, topic, partitions } => {
            let options = server_status::Options { rate, seed, start: start.unwrap_or(now), count, late, malformed };
            to_kafka(settings, &topic, partitions, server_status::Events::new(options), rate).await?;
        }
        Domain::Music { rate, seed, start, users, count, songs, known, late, malformed, topic, partitions, file, catalogue } => {
            if let Some(path) = catalogue {
                write_catalogue(&path, seed, songs)?;
            }
            let start = start.unwrap_or(now - chrono::Duration::days(DEFAULT_AGE_DAYS));
            let events = music::Events::new(music::Options { seed, start, users, count, songs, known, late, malformed });
            match file {
                Some(path) => to_file(&path, events, rate)?,
                None if count == Some(0) => {}
                None => to_kafka(settings, &topic, partitions, events, rate).await?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_catalogue(path: &Path, seed: u64, songs: usize) -> Result<()> {
    let lines: String = music::catalogue::songs(seed, songs).iter().map(|song| format!("{}\n", song.line())).collect();
    std::fs::write(path, lines).with_context(|| format!("write {}", path.display()))?;
    println!("wrote {songs} songs to {}", path.display());
    Ok(())
}

fn to_file(path: &Path, events: impl Iterator<Item = Event>, rate: f64) -> Result<()> {
    let stop = stop_on_signal()?;
    let written = file::write(path, events, rate, &|| stop.is_cancelled())?;
    println!("wrote {written} events to {}", path.display());
    Ok(())
}

async fn to_kafka(settings: &Settings, topic: &str, partitions: i32, events: impl Iterator<Item = Event> + Send, rate: f64) -> Result<()> {
    let config = kafka::client_config(&settings.kafka)?;
    let unreachable = |cause| Unreachable { service: "Kafka", address: settings.kafka.brokers.clone(), cause };
    producing::create_topic(&config, topic, partitions).await.map_err(unreachable)?;
    let stop = stop_on_signal()?;
    // Producing blocks; signals are noticed beside it.
    let produced = std::thread::scope(|scope| scope.spawn(|| producing::produce(&config, topic, events, rate, &|| stop.is_cancelled())).join());
    let produced = produced.map_err(|_| anyhow::anyhow!("the simulator broke off"))??;
    println!("produced {produced} events to {topic}");
    Ok(())
}
