//! No secret is ever printed: neither by a service, nor by a command, nor in an error.

use anabranch_e2e::{
    Stage,
    clicks::{applied, click, pages, pipeline, produce},
};
use anyhow::{Result, ensure};

const SECRETS: [&str; 2] = ["planted-in-a-url", "planted-in-a-client"];

fn find(what: &str, text: &str) -> Result<()> {
    for secret in SECRETS {
        ensure!(!text.contains(secret), "{what} prints {secret}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed() -> Result<()> {
    let name = format!("secrets_{}", std::process::id());
    let mut stage = applied(&name, 2, &pipeline(&name, "earliest", "page")).await?;
    let url = stage.setting("ANABRANCH_POSTGRES__URL")?.replace("anabranch@", "anabranch:planted-in-a-url@");
    // One from a file, as containers get it; one in the settings file.
    let secret = stage.folder().join("secret");
    std::fs::write(&secret, format!("{url}\n"))?;
    stage.unset("ANABRANCH_POSTGRES__URL");
    stage.set("ANABRANCH_POSTGRES__URL_FILE", &secret.display().to_string());
    let config = stage.folder().join("planted.toml");
    std::fs::write(&config, "[kafka.client]\n\"sasl.password\" = \"planted-in-a-client\"\n")?;
    stage.set("ANABRANCH_CONFIG", &config.display().to_string());
    stage.set("RUST_LOG", "debug,h2=off,hyper_util=off");
    produce(&name, 0, &[click("a"), click("b")])?;
    let process = stage.start(&["run"])?;
    pages(&process, 2).await?;
    for command in [&["check"][..], &["status"], &["status", "--json"], &["recompute", "--full"], &["verify"], &["reset"], &["healthy"], &["rejected", &name]] {
        let (_, text) = stage.run(command)?;
        find(&command.join(" "), &text)?;
    }
    ensure!(process.stop().await?.success());
    // What goes wrong says where, and never how it was let in.
    for (setting, value) in [
        ("ANABRANCH_KAFKA__BROKERS", "127.0.0.1:1"),
        ("ANABRANCH_POSTGRES__URL", "postgres://anabranch:planted-in-a-url@127.0.0.1:1/anabranch"),
        ("ANABRANCH_POSTGRES__URL", "postgres://anabranch:planted-in-a-url@127.0.0.1:notaport/anabranch"),
    ] {
        if setting.ends_with("URL") {
            std::fs::write(&secret, value)?
        } else {
            stage.set(setting, value)
        }
        for command in [&["status"][..], &["apply"], &["infer", &name]] {
            let (code, text) = stage.run(command)?;
            find(&format!("{setting}: {}", command.join(" ")), &text)?;
            let asks_kafka_alone = setting.contains("KAFKA") || command != ["status"];
            ensure!(code != Some(0) || asks_kafka_alone, "{setting} = {value}: {text}");
        }
        stage.unset(setting);
    }
    // A property that the client does not take is named without its value.
    std::fs::write(&config, "[kafka.client]\n\"no.such.property\" = \"planted-in-a-client\"\n")?;
    for command in ["check", "run"] {
        let (code, text) = stage.run(&[command])?;
        find(command, &text)?;
        ensure!(code == Some(2) && text.contains("setting kafka.client, \"no.such.property\": No such configuration property"), "{code:?} {text}");
    }
    logs(&stage)
}

/// Every log of the installation, of services that ran for a while with everything that they say.
fn logs(stage: &Stage) -> Result<()> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(stage.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read_to_string(&path)?;
            bytes += text.len();
            find(&path.display().to_string(), &text)?;
        }
    }
    ensure!(bytes > 10_000, "the logs say something: {bytes} bytes");
    Ok(())
}
