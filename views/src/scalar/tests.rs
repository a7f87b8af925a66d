use anabranch_core::definition::{File, parse};

use super::*;

/// The expression as a dimension of a view; what would be a time bucket stands inside another function.
fn compiled(sql: &str) -> Expr {
    let text = format!(
        "CREATE TABLE t (x TEXT) WITH (connector = 'kafka', topic = 't', format = 'json');
         CREATE MATERIALIZED VIEW v AS SELECT coalesce({sql}) AS k, count(*) AS n FROM t GROUP BY 1;"
    );
    let pipeline = parse(&[File { path: "t.sql".into(), text }]).unwrap_or_else(|error| panic!("{sql}: {error}"));
    pipeline.views.into_iter().find(|view| view.name == "v").unwrap().dimensions.remove(0).expression
}

fn value(sql: &str) -> Evaluated {
    evaluate(&compiled(sql), &|_| Value::Null)
}

#[test]
fn every_example_of_the_documents_has_its_value() {
    for entry in Function::TABLE {
        for (example, expected) in entry.examples {
            let found = value(example);
            assert!(!found.failed, "{example} cannot be computed");
            assert_eq!(found.value, value(expected).value, "{example}");
        }
    }
}

#[test]
fn what_cannot_be_computed_is_null_and_said_to_have_failed() {
    for sql in [
        "1 / 0",
        "1.5 / 0",
        "9223372036854775807 + 1",
        "sqrt(-1)",
        "ln(0)",
        "power(0, -1)",
        "chr(0)",
        "repeat('x', 2000000)",
        "substr('x', 1, -1)",
        "make_date(2023, 2, 29)",
        "CAST('x' AS BIGINT)",
        "CAST('1e400' AS DOUBLE)",
        "CAST(99999.5 AS DECIMAL(5, 0))",
        "width_bucket(1, 0, 0, 3)",
    ] {
        assert_eq!(value(sql), Evaluated { value: Value::Null, failed: true }, "{sql}");
    }
    // A branch that is not taken cannot fail.
    assert_eq!(value("CASE WHEN 1 = 0 THEN 1 / 0 ELSE 7 END"), Evaluated { value: Value::BigInt(7), failed: false });
}

#[test]
fn decimals_are_exact() {
    assert_eq!(value("CAST('0.1' AS DECIMAL(5, 1)) + CAST('0.2' AS DECIMAL(5, 1))").value, Value::Decimal(3, 1));
    assert_eq!(value("CAST('1.25' AS DECIMAL(5, 2)) * CAST('-3.5' AS DECIMAL(5, 1))").value, Value::Decimal(-4375, 3));
    assert_eq!(value("CAST(CAST('2.5' AS DECIMAL(5, 1)) AS BIGINT)").value, Value::BigInt(3));
    assert_eq!(value("CAST('0.30' AS DECIMAL(5, 2)) = 0.3").value, Value::Boolean(true));
    assert_eq!(decimal_text(-5, 2), "-0.05");
    assert_eq!(parse_decimal("1e3", 10, 2), Some(Value::Decimal(100_000, 2)));
    assert_eq!(parse_decimal("-0.005", 10, 2), Some(Value::Decimal(-1, 2)));
    assert_eq!(parse_decimal("1e-200", 10, 2), Some(Value::Decimal(0, 2)));
    assert_eq!(parse_decimal("1e20", 10, 2), None);
    assert_eq!(parse_decimal("x", 10, 2), None);
}
