//! What clippy does not see: the shape of files, and that the documents say what the code is.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value as Json;

const LONGEST_FILE: usize = 500;
const LONGEST_USUAL_FILE: usize = 350;
const FORBIDDEN_NAMES: [&str; 5] = ["util", "utils", "helpers", "common", "mod"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of the workspace.
fn sources() -> Vec<(PathBuf, String)> {
    let output = Command::new("git").args(["ls-files", "-co", "--exclude-standard", "*.rs"]).current_dir(root()).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let files: Vec<_> = names.lines().map(PathBuf::from).filter(|path| root().join(path).exists()).collect();
    assert!(files.len() > 50, "the files of the workspace are listed");
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(root().join(path)).unwrap())).collect()
}

fn metadata(arguments: &[&str]) -> Json {
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--locked"]).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn files_are_short_named_by_their_subject_and_say_what_they_are_for() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!FORBIDDEN_NAMES.contains(&name.as_str()), "{}: name the subject", path.display());
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", path.display());
        if lines > LONGEST_USUAL_FILE {
            long.push(path.display().to_string());
        }
        let is_test = path.components().any(|part| part.as_os_str() == "tests") || name == "tests";
        assert!(is_test || text.starts_with("//! "), "{} does not begin with what it is for", path.display());
        let left_out = concat!("#[", "ignore");
        assert!(!text.contains(left_out), "{} leaves a test out", path.display());
    }
    assert!(long.len() <= 3, "long files become the rule: {long:?}");
}

#[test]
fn every_command_is_in_the_readme() {
    let readme = read("README.md");
    let arguments = read("cli/src/arguments.rs");
    let commands = arguments.split("enum Command {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = commands.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(char::is_uppercase));
    let mut count = 0;
    for name in names {
        let mut command = String::new();
        for letter in name.chars().take_while(|letter| letter.is_alphanumeric()) {
            if letter.is_uppercase() && !command.is_empty() {
                command.push('-');
            }
            command.push(letter.to_ascii_lowercase());
        }
        let name = command;
        assert!(readme.contains(&format!("anabranch {name}")), "the README does not have `anabranch {name}`");
        count += 1;
    }
    assert!(count >= 11, "the commands are found");
}

/// The edges of the picture in ARCHITECTURE.md are those of the packages.
#[test]
fn the_picture_of_the_packages_is_right() {
    let text = read("ARCHITECTURE.md");
    let picture = text.split("```mermaid").nth(1).and_then(|rest| rest.split("```").next()).expect("ARCHITECTURE.md has a picture");
    let drawn: BTreeSet<(String, String)> = picture
        .lines()
        .filter_map(|line| line.split_once(" --> "))
        .flat_map(|(from, to)| to.split(" & ").map(move |to| (from.trim().to_owned(), to.trim().to_owned())))
        .collect();
    let short = |name: &str| if name == "anabranch" { "cli".to_owned() } else { name.trim_start_matches("anabranch-").to_owned() };
    let metadata = metadata(&["--no-deps"]);
    let mut real = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            if dependency["kind"].is_null() && name.starts_with("anabranch") {
                real.insert((short(package["name"].as_str().unwrap()), short(name)));
            }
        }
    }
    assert_eq!(drawn, real);
}

/// Layers meet in Kafka, HDFS and PostgreSQL alone; the oracle shares nothing; the core compiles without Polars.
#[test]
fn packages_keep_to_their_layer() {
    let metadata = metadata(&[]);
    let names: BTreeMap<&str, &str> =
        metadata["packages"].as_array().unwrap().iter().map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap())).collect();
    let edges: BTreeMap<&str, Vec<&str>> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            let normal = |dependency: &&Json| dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            let to = node["deps"].as_array().unwrap().iter().filter(normal).map(|dependency| dependency["pkg"].as_str().unwrap()).collect();
            (node["id"].as_str().unwrap(), to)
        })
        .collect();
    let reached = |package: &str| {
        let mut waiting: Vec<&str> = names.iter().filter(|(_, name)| **name == package).map(|(id, _)| *id).collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(&edges[id]);
            }
        }
        seen.into_iter().map(|id| names[id]).filter(|name| *name != package).collect::<BTreeSet<&str>>()
    };
    let oracle = reached("anabranch-oracle");
    assert!(oracle.contains("rdkafka"), "the graph is read");
    assert!(!oracle.iter().any(|name| name.starts_with("anabranch") || name.starts_with("polars")), "{oracle:?}");
    assert!(!reached("anabranch-core").iter().any(|name| name.starts_with("polars") || ["tokio", "rdkafka", "arrow"].contains(name)));
    let layers = ["anabranch-speed", "anabranch-batch", "anabranch-serving"];
    for layer in layers {
        let reached = reached(layer);
        assert!(!layers.iter().any(|other| reached.contains(other)), "{layer} uses another layer");
    }
    let users = |dependency: &str| {
        let uses = |id: &str| edges[id].iter().any(|to| names[to] == dependency);
        names.iter().filter(|(id, name)| name.starts_with("anabranch") && uses(id)).map(|(_, name)| *name).collect::<Vec<_>>()
    };
    // A layer that runs alone shows its metrics; everything else of HTTP is the API.
    assert_eq!(users("axum"), ["anabranch-process", "anabranch-serving"]);
    assert_eq!(users("polars"), ["anabranch-views"]);
    assert_eq!(users("hdfs-native"), ["anabranch-process"]);
    assert_eq!(users("tokio-cron-scheduler"), ["anabranch-batch"]);
}
