//! The meaning of every function and operator, beside PostgreSQL's: the same expressions over the same rows, there and
//! here. What differs is in the functions' table, with its reason.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test; its server is in the environment")]

use std::collections::BTreeMap;

use anabranch_core::definition::{
    DataType, Expr, File, Function,
    function::{Kind, Signature},
    parse,
};
use anabranch_views::{Value, scalar};
use tokio_postgres::{Client, NoTls};

/// Columns, their types, and the texts of their values; NULL is a value of each.
const COLUMNS: [(&str, DataType, &[&str]); 14] = [
    ("n", DataType::BigInt, &["0", "1", "-1", "7", "-7", "100", "9223372036854775807", "-9223372036854775808", "12"]),
    ("m", DataType::BigInt, &["2", "0", "-3", "5", "1", "-1", "9223372036854775807", "18", "3"]),
    ("k", DataType::BigInt, &["0", "1", "2", "-1", "-2", "5", "12", "3", "29"]),
    ("j", DataType::BigInt, &["1", "2", "3", "0", "-1", "10", "2", "1", "59"]),
    ("d", DataType::Double, &["0", "1.5", "-2.5", "2.5", "0.1", "1e300", "-1e-300", "123456.789", "0.5"]),
    ("e", DataType::Double, &["2", "-1", "0", "0.5", "3", "1e10", "-0.25", "1", "0.999"]),
    ("s", DataType::Text, &["", "abc", "Äbc dEf", "a|b|c", "日本語", "  pad  ", "xyxabcxyx", "12", "😀 smile"]),
    ("u", DataType::Text, &["b", "|", "xy", "a%", "_b%", "", "日", "-12.5", "true"]),
    ("b", DataType::Boolean, &["true", "false", "true", "false", "true", "false", "true", "true", "false"]),
    ("c", DataType::Boolean, &["true", "true", "false", "false", "true", "false", "false", "true", "true"]),
    (
        "at",
        DataType::Timestamp,
        &[
            "2024-02-29 13:45:10.5",
            "1970-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "2000-01-01 00:00:00",
            "2023-12-31 12:00:00",
            "2024-12-30 06:07:08",
            "1900-03-01 00:00:00",
            "2026-01-31 23:59:59",
            "2100-07-15 01:02:03.000004",
        ],
    ),
    ("day", DataType::Date, &["2024-02-29", "1970-01-01", "1969-12-31", "2000-02-29", "2023-03-01", "1999-12-31", "1900-01-01", "2026-11-27", "2100-02-28"]),
    ("p", DataType::Decimal { precision: 10, scale: 2 }, &["0.00", "1.25", "-1.25", "99999999.99", "-0.01", "12.50", "2.50", "-3.50", "100.00"]),
    ("q", DataType::Decimal { precision: 8, scale: 3 }, &["0.001", "-2.500", "3.333", "0.000", "99999.999", "1.000", "0.500", "-7.125", "12.500"]),
];

/// Differences of one expression that are shown.
const SHOWN: usize = 3;

/// Operators and what has a syntax of its own.
const EXPRESSIONS: [&str; 74] = [
    "n + m",
    "n - m",
    "n * m",
    "n / m",
    "n % m",
    "d + e",
    "d - e",
    "d * e",
    "d / e",
    "p + q",
    "p - q",
    "p * q",
    "p % q",
    "p + n",
    "p > q",
    "p = 1.25",
    "-n",
    "-d",
    "n = m",
    "n <> m",
    "n < m",
    "n <= m",
    "n > m",
    "n >= m",
    "d < e",
    "d = e",
    "n < d",
    "s < u",
    "s = u",
    "s >= u",
    "at < TIMESTAMP '2000-01-01 00:00:00'",
    "at = TIMESTAMP '2000-01-01 00:00:00'",
    "day < DATE '2000-01-01'",
    "day = at",
    "b AND c",
    "b OR c",
    "NOT b",
    "b = c",
    "b IS TRUE",
    "b IS NOT FALSE",
    "b IS UNKNOWN",
    "n IS NULL",
    "n IS NOT NULL",
    "n IS DISTINCT FROM m",
    "s IS NOT DISTINCT FROM u",
    "n BETWEEN -1 AND m",
    "n NOT BETWEEN 0 AND 7",
    "n IN (1, 7, m)",
    "s NOT IN ('abc', u)",
    "s LIKE u",
    "s NOT LIKE '%b%'",
    "s ILIKE '%B%'",
    "CASE WHEN n > m THEN n WHEN b THEN m ELSE 0 END",
    "CASE k WHEN 1 THEN 'one' WHEN 2 THEN u END",
    "CAST(n AS DOUBLE)",
    "CAST(n AS TEXT)",
    "CAST(d AS BIGINT)",
    "CAST(d AS TEXT)",
    "CAST(s AS BIGINT)",
    "CAST(u AS DOUBLE)",
    "CAST(u AS BOOLEAN)",
    "CAST(b AS TEXT)",
    "CAST(at AS DATE)",
    "CAST(at AS TEXT)",
    "CAST(day AS TIMESTAMP)",
    "CAST(day AS TEXT)",
    "CAST(p AS BIGINT)",
    "CAST(p AS TEXT)",
    "CAST(d AS DECIMAL(12, 3))",
    "CAST(u AS DECIMAL(6, 1))",
    "day + k",
    "day - k",
    "day - DATE '2000-01-01'",
    "substring(s FROM k FOR 3)",
];

const TIMES: [&str; 8] = [
    "at + INTERVAL '1 month'",
    "at - INTERVAL '13 months'",
    "at + INTERVAL '90 minutes'",
    "at - INTERVAL '2 days 3 hours'",
    "date_bin(INTERVAL '15 minutes', at, TIMESTAMP '2001-01-01 00:07:00')",
    "date_bin(INTERVAL '7 days', at, TIMESTAMP '2001-01-01 00:00:00')",
    "trim(BOTH 'xy' FROM s)",
    "position(u IN s)",
];

fn rows() -> Vec<BTreeMap<&'static str, Option<&'static str>>> {
    let mut rows = Vec::new();
    // Each column goes through its values at its own pace, so that all kinds of pairs occur.
    for row in 0..90usize {
        let cell = |index: usize, values: &[&'static str]| {
            let place = (row * (index + 1) + row / 9 * (index + 2) + index) % (values.len() + 1);
            values.get(place).copied()
        };
        rows.push(COLUMNS.iter().enumerate().map(|(index, (name, _, values))| (*name, cell(index, values))).collect());
    }
    rows
}

fn cell(data_type: DataType, text: &str) -> Value {
    let expression = compiled(&format!("CAST('{text}' AS {data_type})"));
    scalar::evaluate(&expression, &|_| Value::Null).value
}

/// What would be a time bucket stands inside another function.
fn compiled(sql: &str) -> Expr {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, data_type, _)| format!("{name} {data_type}")).collect();
    let text = format!(
        "CREATE TABLE t ({}) WITH (connector = 'kafka', topic = 't', format = 'json');
         CREATE MATERIALIZED VIEW v AS SELECT coalesce({sql}) AS z, count(*) AS z_count FROM t GROUP BY 1;",
        columns.join(", ")
    );
    let pipeline = parse(&[File { path: "t.sql".into(), text }]).unwrap_or_else(|error| panic!("{sql}: {error}"));
    pipeline.views.into_iter().find(|view| view.name == "v").unwrap().dimensions.remove(0).expression
}

/// A call of a function in one of its forms: as here, and as in PostgreSQL.
fn calls(name: &str, chapter: &str, signature: &Signature) -> Vec<(String, String)> {
    // Counts and positions are small there: INTEGER.
    let small = (matches!(chapter, "Texts" | "Times") && name != "to_hex") || name == "width_bucket" || name == "round";
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pick = |kind: Kind| {
        let (key, columns): (&str, &[&str]) = match kind {
            Kind::Boolean => ("b", &["b", "c"]),
            Kind::BigInt if small => ("k", &["k", "j", "k", "j", "j"]),
            Kind::BigInt | Kind::Number | Kind::Any => ("n", &["n", "m"]),
            Kind::Double => ("d", &["d", "e", "d"]),
            Kind::Text => ("s", &["s", "u", "u"]),
            Kind::Date => ("day", &["day"]),
            Kind::Timestamp => ("at", &["at"]),
        };
        let place = used.entry(key).or_default();
        *place += 1;
        columns[(*place - 1) % columns.len()].to_owned()
    };
    let arguments: Vec<String> = signature.takes.iter().map(|kind| pick(*kind)).collect();
    let there: Vec<String> =
        arguments.iter().map(|argument| if small && matches!(argument.as_str(), "k" | "j") { format!("{argument}::int") } else { argument.clone() }).collect();
    vec![(format!("{name}({})", arguments.join(", ")), format!("{name}({})", there.join(", ")))]
}

/// All expressions: as here, and as in PostgreSQL.
fn expressions() -> Vec<(String, String)> {
    let mut expressions: Vec<(String, String)> = Vec::new();
    for sql in EXPRESSIONS.iter().chain(&TIMES) {
        // The difference of days, and days added, are INTEGER there.
        let there = sql
            .replace("day + k", "day + k::int")
            .replace("day - k", "day - k::int")
            .replace("FROM k FOR", "FROM k::int FOR")
            .replace("DOUBLE", "DOUBLE PRECISION");
        expressions.push(((*sql).to_owned(), there));
    }
    for entry in Function::TABLE.iter().filter(|entry| entry.is_called()) {
        match entry.function {
            Function::DateTrunc => {
                for unit in ["second", "minute", "hour", "day", "week", "month", "quarter", "year"] {
                    expressions.push((format!("date_trunc('{unit}', at)"), format!("date_trunc('{unit}', at)")));
                }
            }
            Function::Extract => {
                for field in [
                    "century",
                    "decade",
                    "year",
                    "isoyear",
                    "quarter",
                    "month",
                    "week",
                    "day",
                    "doy",
                    "dow",
                    "isodow",
                    "hour",
                    "minute",
                    "second",
                    "millisecond",
                    "microsecond",
                    "epoch",
                ] {
                    // Whole numbers, rounded down: the deviation that the table names.
                    expressions.push((format!("extract({field} FROM at)"), format!("floor(extract({field} FROM at))::bigint")));
                }
            }
            // date_bin and intervals are among the expressions.
            Function::DateBin | Function::AddInterval => {}
            Function::ToTimestamp => expressions.push(("to_timestamp(e)".into(), "to_timestamp(e) AT TIME ZONE 'UTC'".into())),
            // With a number of digits PostgreSQL has it for numeric alone: halves go away from zero there.
            Function::Round => expressions.push(("round(d)".into(), "round(d)".into())),
            Function::RegexpLike | Function::RegexpReplace | Function::RegexpSubstr => {
                let rest = if entry.function == Function::RegexpReplace { ", 'Z'" } else { "" };
                for pattern in ["b", "^a.*c$", "[0-9]+", "(a|x)y?"] {
                    let call = format!("{}(s, '{pattern}'{rest})", entry.name);
                    expressions.push((call.clone(), call));
                }
            }
            Function::MakeTimestamp => {
                expressions.push(("make_timestamp(2000 + k, 2, j, k, j, 1.5)".into(), "make_timestamp(2000 + k::int, 2, j::int, k::int, j::int, 1.5)".into()))
            }
            Function::MakeDate => expressions.push(("make_date(2000 + k, 2, k)".into(), "make_date(2000 + k::int, 2, k::int)".into())),
            _ => expressions.extend(entry.signatures.iter().flat_map(|signature| calls(entry.name, entry.chapter, signature))),
        }
    }
    for entry in Function::TABLE {
        // A literal has the collation of the database, and TIMESTAMP WITH TIME ZONE prints its zone.
        let there = |example: &str| match entry.function {
            Function::ToTimestamp => format!("{example} AT TIME ZONE 'UTC'"),
            _ => example.replace("'ÄB'", "'ÄB' COLLATE \"C.utf8\""),
        };
        expressions.extend(entry.examples.iter().filter(|_| entry.deviation.is_none()).map(|(example, _)| ((*example).to_owned(), there(example))));
    }
    expressions
}

async fn prepared() -> Client {
    let url = std::env::var("ANABRANCH_POSTGRES__URL").expect("ANABRANCH_POSTGRES__URL is not set; run the tests by `make test`");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let column = |(name, data_type, _): &(&str, DataType, &[&str])| match data_type {
        // Letters of all languages have cases; the order is that of the bytes.
        DataType::Text => format!("{name} text COLLATE \"C.utf8\""),
        DataType::Double => format!("{name} double precision"),
        other => format!("{name} {other}"),
    };
    let columns: Vec<String> = COLUMNS.iter().map(column).collect();
    client.batch_execute(&format!("SET TIME ZONE 'UTC'; CREATE TEMPORARY TABLE rows (id int, {})", columns.join(", "))).await.unwrap();
    for (id, row) in rows().iter().enumerate() {
        let values: Vec<String> = COLUMNS.iter().map(|(name, _, _)| row[name].map_or("NULL".to_owned(), |text| format!("'{text}'"))).collect();
        client.batch_execute(&format!("INSERT INTO rows VALUES ({id}, {})", values.join(", "))).await.unwrap();
    }
    // An error of one row must not end the statement.
    let function = "CREATE FUNCTION pg_temp.attempt(expression text, id int) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE result text;
        BEGIN EXECUTE format('SELECT (%s)::text FROM rows WHERE id = $1', expression) INTO result USING id; RETURN result;
        EXCEPTION WHEN OTHERS THEN RETURN '<error> ' || SQLERRM; END $$";
    client.batch_execute(function).await.unwrap();
    client
}

/// The same value; DOUBLE to twelve digits, as logarithms come from other libraries.
fn same(here: &Value, there: Option<&str>) -> bool {
    let Some(there) = there else { return here.is_null() };
    match here {
        Value::Double(value) => {
            there.parse::<f64>().is_ok_and(|there| (there - value).abs() <= 1e-12 * there.abs() || there == *value || (there.is_nan() && value.is_nan()))
        }
        Value::Null => false,
        other => scalar::text(other).as_deref() == Some(there),
    }
}

#[tokio::test]
async fn every_function_and_operator_means_what_it_means_in_postgresql() {
    let client = prepared().await;
    let rows = rows();
    let cells: Vec<BTreeMap<&str, Value>> = rows
        .iter()
        .map(|row| COLUMNS.iter().map(|(name, data_type, _)| (*name, row[name].map_or(Value::Null, |text| cell(*data_type, text)))).collect())
        .collect();
    let statement = client.prepare("SELECT pg_temp.attempt($1, id) FROM rows ORDER BY id").await.unwrap();
    let (mut compared, mut failures, mut wrong) = (0, 0, Vec::new());
    let expressions = expressions();
    for (here, there) in &expressions {
        let expression = compiled(here);
        let answers = client.query(&statement, &[there]).await.unwrap();
        for ((answer, row), id) in answers.iter().zip(&cells).zip(0..) {
            let there_value: Option<&str> = answer.get(0);
            let found = scalar::evaluate(&expression, &|name| row.get(name).cloned().unwrap_or(Value::Null));
            let error = there_value.filter(|text| text.starts_with("<error>"));
            let agrees = match error {
                Some(_) => found.failed || infinite(&found.value),
                None => !found.failed && same(&found.value, there_value),
            };
            compared += 1;
            failures += usize::from(error.is_some());
            if !agrees && wrong.iter().filter(|other: &&String| other.starts_with(&format!("{here} where"))).count() < SHOWN {
                let arguments: Vec<String> =
                    COLUMNS.iter().filter(|(name, _, _)| mentions(here, name)).map(|(name, _, _)| format!("{name} = {:?}", rows[id][name])).collect();
                wrong.push(format!("{here} where {}: {found:?} here, {there_value:?} there", arguments.join(", ")));
            }
        }
    }
    println!("{} expressions, {compared} values compared, {failures} of them errors", expressions.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(expressions.len() >= 200 && failures * 2 < compared);
}

/// DOUBLE that overflows is an error there and Infinity here: and what underflows is 0: the deviation that the table names at `*`.
fn infinite(value: &Value) -> bool {
    matches!(value, Value::Double(value) if value.is_infinite() || *value == 0.0)
}

fn mentions(expression: &str, name: &str) -> bool {
    expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
}
