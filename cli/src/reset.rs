//! `anabranch reset`: drops what Anabranch made, after saying what.

use std::process::ExitCode;

use anabranch_core::layout;
use anabranch_process::{
    Catalog, Settings, Warehouse,
    catalog::{definitions, published},
    failure::{Refused, Unreachable},
    identity, kafka,
};
use anyhow::{Context, Result};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    error::RDKafkaErrorCode,
};

use crate::arguments::ResetArguments;

pub(crate) async fn run(settings: &Settings, arguments: &ResetArguments) -> Result<ExitCode> {
    match &arguments.view {
        Some(view) => one_view(settings, view, arguments.yes).await,
        None => everything(settings, arguments.yes).await,
    }
}

/// The versions of a view, and its place in the catalog; the next `apply` makes it anew, from the archive.
async fn one_view(settings: &Settings, view: &str, yes: bool) -> Result<ExitCode> {
    let mut client = Catalog::at(&settings.postgres.url)?.connect().await?;
    let row = client.query_opt("SELECT source FROM view WHERE name = $1", &[&view]).await?;
    let Some(source) = row.map(|row| row.get::<_, String>(0)) else {
        return Err(Refused(format!("unknown view \"{view}\"")).into());
    };
    let versions: i64 = client.query_one("SELECT count(*) FROM version WHERE source = $1 AND view = $2", &[&source, &view]).await?.get(0);
    println!("view {view} of source {source}: {versions} versions and its live rows; the archive stays, and `anabranch apply` builds the view anew from it");
    if !yes {
        println!("nothing was changed; repeat with --yes");
        return Ok(ExitCode::from(1));
    }
    let transaction = client.transaction().await?;
    transaction.execute("UPDATE source SET definitions = definitions + 1 WHERE name = $1", &[&source]).await?;
    transaction.execute("DELETE FROM view WHERE source = $1 AND name = $2", &[&source, &view]).await?;
    transaction.execute("DELETE FROM version WHERE source = $1 AND view = $2", &[&source, &view]).await?;
    transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
    transaction.commit().await?;
    published::sync_views(&mut client).await?;
    println!("dropped");
    Ok(ExitCode::SUCCESS)
}

/// Catalog, warehouse, consumer groups.
async fn everything(settings: &Settings, yes: bool) -> Result<ExitCode> {
    let catalog = Catalog::at(&settings.postgres.url)?;
    let mut client = catalog.connect().await?;
    let warehouse = Warehouse::at(&settings.warehouse.url)?;
    let known: bool = client.query_one("SELECT to_regclass('anabranch.source') IS NOT NULL", &[]).await?.get(0);
    if !known {
        println!("{}: there is no catalog of Anabranch; nothing to drop", catalog.address());
        return Ok(ExitCode::SUCCESS);
    }
    let incarnation = identity::of(&client).await?;
    let (sources, topics) = (definitions::sources(&client).await?, definitions::topics(&client).await?);
    let mut groups = Vec::new();
    for source in &topics {
        let files = warehouse.list(&layout::archive_folder(source)).await?;
        let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
        println!("source {source}: {} archive files, {} in {warehouse}", files.len(), indicatif::BinaryBytes(bytes));
        groups.extend(["speed", "archive"].map(|layer| kafka::group_name(layer, source, incarnation)));
    }
    let tables: i64 = client.query_one("SELECT count(*) FROM pg_tables WHERE schemaname = 'anabranch'", &[]).await?.get(0);
    println!("{tables} tables of the schema anabranch at {}", catalog.address());
    println!("consumer groups {}", groups.join(", "));
    println!("the topics and their events stay; what Kafka has forgotten is in the archive alone, and gone with it");
    if !yes {
        println!("nothing was changed; repeat with --yes");
        return Ok(ExitCode::from(1));
    }
    // First what refuses while a layer still runs.
    let admin: AdminClient<DefaultClientContext> = kafka::client_config(&settings.kafka)?.create().context("make a Kafka client")?;
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    let unreachable = |cause: rdkafka::error::KafkaError| Unreachable { service: "Kafka", address: settings.kafka.brokers.clone(), cause: cause.into() };
    for result in admin.delete_groups(&names, &AdminOptions::new()).await.map_err(unreachable)? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
            Err((group, code)) => return Err(Refused(format!("consumer group {group}: {code}; stop every layer first")).into()),
        }
    }
    published::drop_views(&mut client).await?;
    for source in &sources {
        warehouse.remove_folder(source).await?;
    }
    warehouse.remove_folder(layout::REFERENCES).await?;
    warehouse.remove(layout::IDENTITY).await?;
    client.batch_execute("DROP SCHEMA anabranch CASCADE").await?;
    println!("dropped");
    Ok(ExitCode::SUCCESS)
}
