//! Settings: `anabranch.toml`, each overridden by `ANABRANCH_<SECTION>__<KEY>`.
//!
//! Few, each with a unit in its name and a default that fits most; constants stand beside their use.

use std::{collections::BTreeMap, path::Path};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

use crate::failure::Refused;

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Kafka.
    pub kafka: Kafka,
    /// The warehouse.
    pub warehouse: WarehouseSettings,
    /// The catalog and the live rows.
    pub postgres: Postgres,
    /// Definitions.
    pub pipelines: Pipelines,
    /// The speed layer.
    pub speed: Speed,
    /// The archive.
    pub archive: Archive,
    /// Runs.
    pub batch: Batch,
    /// The HTTP API.
    pub serving: Serving,
    /// Figures for Prometheus.
    pub metrics: Metrics,
}

/// Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Bootstrap servers, `host:port` with commas between.
    pub brokers: String,
    /// Further librdkafka properties, passed through, as in `"security.protocol" = "SASL_SSL"`; with `_` for `.` as variables:
    /// `ANABRANCH_KAFKA__CLIENT__SASL_PASSWORD_FILE`. `"group.instance.id"` replaces the host's name where two workers
    /// of one source run on one host.
    pub client: BTreeMap<String, String>,
}

/// The warehouse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseSettings {
    /// `hdfs://host:port/folder` or `file:///folder`.
    pub url: String,
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// The database: a direct connection, no transaction pooling.
    pub url: String,
}

/// Definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Pipelines {
    /// The folder of the `*.sql` files.
    pub dir: String,
}

/// The speed layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Speed {
    /// Milliseconds between two writes of live rows when writing is quick; grows so that it takes at most half of the time.
    pub flush_ms: u64,
    /// Live rows of one view above its version at which speed stops reading; each takes about 1 kB in a reader while that reads it.
    pub live_rows: u64,
}

/// The archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// Bytes at which a file is sealed: few large files are what HDFS and readers like.
    pub rotate_bytes: u64,
    /// Seconds after which a file is sealed, also on a quiet topic.
    pub rotate_seconds: u64,
}

/// Runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// When incremental runs start: cron with seconds, UTC.
    pub incremental: String,
    /// When runs start that recompute from raw records and compare: cron with seconds, UTC; at night, for they read the whole archive.
    pub audit: String,
    /// Days back from now whose buckets those look at; 0 = everything.
    pub audit_days: u32,
    /// Seconds that live rows below the previous version are kept after a publication, so that slow readers catch up.
    pub prune_after_seconds: u64,
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Serving {
    /// `address:port`; this machine alone by default.
    pub listen: String,
    /// Queries that are computed at the same time; others wait.
    pub queries_at_once: usize,
    /// Seconds after which a query is given up.
    pub query_seconds: u64,
    /// Bytes of parts up to which a view is held in memory, where it takes about as much; of a larger one they lie in nameless temporary
    /// files (`TMPDIR`), and each query reads the days and columns that it needs.
    pub memory_bytes: u64,
    /// Groups that one query may hold while it is computed; each takes about 1 kB.
    pub groups: usize,
    /// Bytes of rows of answers that are kept for who asks the same while nothing changed.
    pub cache_bytes: u64,
}

/// Figures for Prometheus, where no API shows them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// `address:port` of `/metrics`, `/healthz` and `/readyz` of this process; empty for none: several on one machine need ports of
    /// their own, and the serving layer has them at its own address.
    pub listen: String,
}

impl Default for Kafka {
    fn default() -> Self {
        Self { brokers: "localhost:9092".to_owned(), client: BTreeMap::new() }
    }
}

impl Default for WarehouseSettings {
    fn default() -> Self {
        Self { url: "hdfs://localhost:9000/anabranch".to_owned() }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self { url: "postgres://anabranch@localhost:5432/anabranch".to_owned() }
    }
}

impl Default for Pipelines {
    fn default() -> Self {
        Self { dir: "pipelines".to_owned() }
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self { flush_ms: 200, live_rows: 2_000_000 }
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self { rotate_bytes: 128 * 1024 * 1024, rotate_seconds: 3600 }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { incremental: "0 */10 * * * *".to_owned(), audit: "0 0 3 * * *".to_owned(), audit_days: 0, prune_after_seconds: 300 }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            queries_at_once: 8,
            query_seconds: 30,
            memory_bytes: 1024 * 1024 * 1024,
            groups: 1_000_000,
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Settings {
    /// Reads `file` (where it must exist if `required`), then the environment; `…_FILE` names a file with the value,
    /// which takes precedence.
    ///
    /// # Errors
    /// [`Refused`] with file, line, column, a caret and what is allowed.
    pub fn load(file: &Path, required: bool) -> Result<Self, Refused> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if required || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Refused(format!("settings file {}: {error}", file.display())));
            }
            Err(_) => String::new(),
        };
        // toml says line, column and caret, which figment does not keep.
        toml::from_str::<Self>(&text).map_err(|error| Refused(format!("settings file {}: {}", file.display(), error.to_string().trim_end())))?;
        let environment = Env::prefixed("ANABRANCH_").filter(|key| key.as_str().contains("__"));
        let mut files = Figment::new();
        // Secrets as containers get them: ANABRANCH_POSTGRES__URL_FILE names a file that holds the value.
        for (key, path) in environment.iter().filter(|(key, _)| in_file(key.as_str()).is_some()) {
            let name = in_file(key.as_str()).unwrap_or_default().replace("__", ".");
            let value = std::fs::read_to_string(&path).map_err(|error| Refused(format!("ANABRANCH_{}: file {path}: {error}", key.as_str().to_uppercase())))?;
            files = files.merge((name, value.trim_end()));
        }
        let mut settings: Self = Figment::from(Serialized::defaults(Self::default()))
            .merge(Toml::string(&text))
            .merge(environment.clone().filter(|key| in_file(key.as_str()).is_none()).split("__"))
            .merge(files)
            .extract()
            .map_err(|error| Refused(format!("settings from the environment: {error} (for key ANABRANCH_{})", error.path.join("__").to_uppercase())))?;
        // The name of a variable has no points, the name of a property no underscores.
        settings.kafka.client = settings.kafka.client.into_iter().map(|(property, value)| (property.replace('_', "."), value)).collect();
        Ok(settings)
    }
}

/// The setting whose value is in the file that this variable names.
fn in_file(key: &str) -> Option<&str> {
    key.strip_suffix("_file").or_else(|| key.strip_suffix("_FILE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, Refused> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("anabranch.toml");
        std::fs::write(&file, text).unwrap();
        Settings::load(&file, true).map_err(|Refused(message)| Refused(message.replace(&folder.path().display().to_string(), "")))
    }

    #[test]
    fn the_example_file_holds_the_defaults() {
        let text = include_str!("../../anabranch.example.toml");
        assert_eq!(toml::from_str::<Settings>(text).unwrap(), Settings::default());
        for (section, value) in toml::Table::try_from(Settings::default()).unwrap() {
            for key in value.as_table().unwrap().keys().filter(|key| *key != "client") {
                assert!(text.lines().any(|line| line.starts_with(&format!("{key} = "))), "{section}.{key} is missing in anabranch.example.toml");
            }
        }
    }

    /// `UPDATE=1` writes the page anew.
    #[test]
    fn the_reference_names_every_setting() {
        let schema = serde_json::to_value(schemars::schema_for!(Settings)).unwrap();
        let defaults = toml::Table::try_from(Settings::default()).unwrap();
        let mut page = include_str!("settings/head.md").to_owned();
        for (section, property) in schema["properties"].as_object().unwrap() {
            let definition = &schema["$defs"][property["$ref"].as_str().unwrap().rsplit('/').next().unwrap()];
            page.push_str(&format!("\n## `[{section}]`\n\n{}\n\n| setting | default | what |\n|---|---|---|\n", text(property)));
            for (key, setting) in definition["properties"].as_object().unwrap() {
                let default =
                    defaults[section].get(key).filter(|value| value.as_table().is_none()).map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
                page.push_str(&format!("| `{key}` | {default} | {} |\n", text(setting)));
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page, "UPDATE=1 writes docs/settings.md anew");
    }

    fn text(described: &serde_json::Value) -> String {
        described["description"].as_str().unwrap().replace('\n', " ")
    }

    #[test]
    fn a_wrong_setting_is_shown_in_its_place() {
        insta::assert_snapshot!(load("[speed]\nflush_sm = 100\n").unwrap_err(), @r"
        settings file /anabranch.toml: TOML parse error at line 2, column 1
          |
        2 | flush_sm = 100
          | ^^^^^^^^
        unknown field `flush_sm`, expected `flush_ms` or `live_rows`
        ");
        insta::assert_snapshot!(load("[archive]\nrotate_seconds = \"an hour\"\n").unwrap_err(), @r#"
        settings file /anabranch.toml: TOML parse error at line 2, column 18
          |
        2 | rotate_seconds = "an hour"
          |                  ^^^^^^^^^
        invalid type: string "an hour", expected u64
        "#);
    }
}
