//! One database belongs to one warehouse: a uuid, the incarnation, lies in both.
//!
//! An empty database beside a full warehouse would begin every topic anew and lose history in silence; it is refused.

use anabranch_core::{format, layout};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    Warehouse, crash,
    failure::{Refused, Unreachable},
    warehouse::WarehouseError,
};

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: u32,
    incarnation: Uuid,
}

/// The incarnation of both, made where neither has one.
///
/// # Errors
/// [`Refused`] when they belong to different ones, [`Unreachable`] when the warehouse does not answer.
pub async fn settle(client: &Client, warehouse: &Warehouse) -> Result<Uuid> {
    let in_warehouse = read(warehouse).await?;
    let in_database: Option<Uuid> = client.query_opt("SELECT incarnation FROM identity", &[]).await?.map(|row| row.get(0));
    match (in_database, in_warehouse) {
        (Some(database), Some(warehouse)) if database == warehouse => Ok(database),
        (Some(database), Some(found)) => {
            Err(Refused(format!("the database belongs to incarnation {database}, the warehouse {warehouse} to {found}: one of them was restored or exchanged"))
                .into())
        }
        (None, Some(found)) => Err(Refused(format!(
            "the database is empty, but the warehouse {warehouse} holds the history of incarnation {found}: restore the database, or choose an empty folder"
        ))
        .into()),
        (Some(database), None) => {
            let used: i64 = client.query_one("SELECT count(*) FROM run", &[]).await?.get(0);
            let archived: i64 = client.query_one("SELECT count(*) FROM partition WHERE archived_to > origin", &[]).await?.get(0);
            if used + archived > 0 {
                return Err(Refused(format!("the warehouse {warehouse} is empty, but the database has published from it: restore the warehouse")).into());
            }
            create(warehouse, database).await?;
            Ok(database)
        }
        (None, None) => {
            let (sql, incarnation) = ("INSERT INTO identity (incarnation) VALUES ($1) ON CONFLICT DO NOTHING", Uuid::new_v4());
            crash::step("identity", client.execute(sql, &[&incarnation])).await?;
            let incarnation: Uuid = client.query_one("SELECT incarnation FROM identity", &[]).await?.get(0);
            create(warehouse, incarnation).await?;
            Ok(incarnation)
        }
    }
}

/// The incarnation of a database that was settled.
///
/// # Errors
/// When PostgreSQL does not answer, or was never settled.
pub async fn of(client: &Client) -> Result<Uuid> {
    Ok(client.query_one("SELECT incarnation FROM identity", &[]).await.context("read the identity of the database")?.get(0))
}

async fn read(warehouse: &Warehouse) -> Result<Option<Uuid>> {
    let content = match warehouse.read(layout::IDENTITY).await {
        Err(WarehouseError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(Unreachable { service: "the warehouse", address: warehouse.to_string(), cause: error.into() }.into()),
        Ok(content) => content,
    };
    let identity: Identity = serde_json::from_slice(&content).with_context(|| format!("read {} of the warehouse", layout::IDENTITY))?;
    format::check("the warehouse", identity.format, format::WAREHOUSE).map_err(|error| Refused(error.to_string()))?;
    Ok(Some(identity.incarnation))
}

/// Of several processes that start together, all write the same incarnation; the first file stays.
async fn create(warehouse: &Warehouse, incarnation: Uuid) -> Result<()> {
    let content = serde_json::to_vec(&Identity { format: format::WAREHOUSE, incarnation })?;
    let temporary = format!("_tmp/{}", Uuid::new_v4());
    warehouse.write_new(&temporary, content.into()).await?;
    match warehouse.rename_new(&temporary, layout::IDENTITY).await {
        Err(WarehouseError::AlreadyExists(_)) => Ok(warehouse.remove(&temporary).await?),
        result => Ok(result?),
    }
}
