//! Results for people.

use anabranch_serving::status::{SourceStatus, Status};
use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

/// A table as psql draws it.
pub(crate) fn table<'a>(header: impl IntoIterator<Item = &'a str>, right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(crate) fn status(status: &Status, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(status)?);
        return Ok(());
    }
    for source in &status.sources {
        if source.topic.is_empty() {
            println!("reference {}\n", source.source);
        } else {
            println!(
                "source {} (topic {}): cut {} wanted, {} finished; {} epochs",
                source.source, source.topic, source.cut_wanted, source.cut_finished, source.epochs
            );
            println!("{}\n", partitions(source));
        }
        if let Some(trouble) = &source.speed_trouble {
            println!("speed reads nothing: {trouble}\n");
        }
        for state in &source.partitions {
            for (layer, trouble) in [("speed", &state.speed_trouble), ("the archive", &state.archive_trouble)] {
                if let Some(trouble) = trouble {
                    println!("{layer} stopped in partition {}: {trouble}\n", state.partition);
                }
            }
        }
        for lost in &source.lost {
            println!("lost: partition {} [{}, {})\n", lost.partition, lost.start, lost.end);
        }
        let mut views = table(["view", "state", "version", "version groups", "live groups"], &[2, 3, 4]);
        for view in &source.views {
            let run = view.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
            views.add_row([view.view.clone(), view.state.to_owned(), run, view.version_groups.to_string(), view.live_groups.to_string()]);
        }
        println!("{views}\n");
        for view in &source.views {
            if let Some(failure) = &view.failure {
                let stands = if view.left_out { "; it has too many live rows and is left out, its answers stand" } else { "" };
                println!("view {} could not be built: {failure}{stands}\n", view.view);
            }
        }
        let mut runs = table(["run", "kind", "started (UTC)", "seconds", "outcome", "records", "drift", "error"], &[0, 3, 5, 6]);
        for run in &source.runs {
            let outcome = run.outcome.clone().unwrap_or_else(|| "going on".to_owned());
            runs.add_row([
                run.run.to_string(),
                run.kind.clone(),
                run.started_at.clone(),
                format!("{:.1}", run.seconds),
                outcome,
                run.records.to_string(),
                run.drift.to_string(),
                run.error.clone().unwrap_or_default(),
            ]);
        }
        println!("{runs}\n");
        let mut rejected = table(["rejected because", "records"], &[1]);
        for (reason, count) in &source.rejected {
            rejected.add_row([reason.clone(), count.to_string()]);
        }
        println!("{rejected}\n");
    }
    Ok(())
}

fn partitions(source: &SourceStatus) -> Table {
    let mut partitions = table(["partition", "origin", "next offset", "end", "lag", "archived to", "epoch"], &[0, 1, 2, 3, 4, 5, 6]);
    for state in &source.partitions {
        let epoch = state.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        partitions.add_row([
            state.partition.to_string(),
            state.origin.to_string(),
            state.next_offset.to_string(),
            state.high_watermark.to_string(),
            state.lag.to_string(),
            state.archived_to.to_string(),
            epoch,
        ]);
    }
    partitions
}
