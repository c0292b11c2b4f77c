//! Tests of the settings: where they come from, which are refused.

use super::*;

fn load(file: Option<&str>, environment: &[(&str, &str)], flags: &[&str]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file.map(|text| {
        let path = directory.path().join("node.toml");
        std::fs::write(&path, text).expect("written");
        path
    });
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Settings::load(path.as_deref(), environment, &flags).map_err(|error| error.to_string())
}

#[test]
fn nothing_said_is_the_default_and_the_reference_shows_it() {
    assert_eq!(load(None, &[], &[]), Ok(Settings::default()));
    for key in KEYS {
        let flag = format!("{}={}", key.name, key.default());
        assert_eq!(load(None, &[], &[&flag]), Ok(Settings::default()), "{flag}");
    }
}

#[test]
fn flag_beats_environment_beats_file() {
    let file = "segment_bytes = 1048576\ntime_scale = 0.5\nlog = \"warn\"\nzero_ahead = false\n";
    let settings = load(
        Some(file),
        &[("POINTSMAN_TIME_SCALE", "0.25"), ("POINTSMAN_LOG", "error"), ("HOME", "/")],
        &["log=debug,hyper=error"],
    )
    .expect("good settings");
    assert_eq!(settings.segment_bytes, 1 << 20);
    assert!(!settings.zero_ahead);
    assert_eq!(settings.time_scale, 0.25);
    assert_eq!(settings.log, "debug,hyper=error");
}

#[test]
fn the_clients_variables_and_those_of_kubernetes_are_no_settings() {
    let names =
        ["POINTSMAN_URL", "POINTSMAN_TOKEN", "POINTSMAN_TENANT", "POINTSMAN_SERVICE_HOST", "POINTSMAN_PORT_7070_TCP"];
    let environment: Vec<_> = names.iter().map(|name| (*name, "x")).collect();
    assert_eq!(load(None, &environment, &[]), Ok(Settings::default()));
}

#[test]
fn ranges_one_below_at_and_above() {
    for (key, least, most) in [
        ("segment_bytes", limits::SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
        ("data_shards", 1, limits::DATA_SHARDS_MAX.into()),
        ("retention_ms_max", 1, RETENTION_MS_CEILING),
        ("workers", 0, THREADS_MAX),
        ("plugin_workers", 0, THREADS_MAX),
    ] {
        let ok = |value: i128| load(None, &[], &[&format!("{key}={value}")]).is_ok();
        let (least, most) = (i128::from(least), i128::from(most));
        assert_eq!([ok(least - 1), ok(least), ok(most), ok(most + 1)], [false, true, true, false], "{key}");
    }
    for (value, good) in
        [("0.000001", true), ("0", false), ("1000", true), ("1000.1", false), ("NaN", false), ("inf", false)]
    {
        assert_eq!(load(None, &[], &[&format!("time_scale={value}")]).is_ok(), good, "{value}");
    }
}

#[test]
fn a_refusal_is_one_line_that_says_where_and_what() {
    let check = |file, environment: &[(&str, &str)], flags: &[&str], expected: &str| {
        let error = load(file, environment, flags).expect_err("refused");
        assert!(error.contains(expected), "`{error}` lacks `{expected}`");
        assert!(!error.contains('\n'), "{error}");
    };
    check(None, &[], &["sgement_bytes=1"], "--set: unknown setting `sgement_bytes`");
    check(None, &[], &["log"], "--set `log`: write it as key=value");
    check(None, &[], &["zero_ahead=yes"], "--set: `yes` is no value of `zero_ahead`; it takes true or false");
    check(
        None,
        &[("POINTSMAN_DATA_SHARDS", "0")],
        &[],
        "POINTSMAN_DATA_SHARDS: `0` is no value of `data_shards`; it takes auto, or 1 to 64",
    );
    check(None, &[("POINTSMAN_NOPE", "2")], &[], "POINTSMAN_NOPE: unknown setting `nope`");
    check(Some("workers = 1\nworkers = 2\n"), &[], &[], "node.toml: line 2:");
    check(Some("[log]\nlevel = 1\n"), &[], &[], "`log` must be a string, a number or a boolean");
    check(Some("port = 1\n"), &[], &[], "unknown setting `port`");
    check(None, &[], &["log=a=b=c=loud"], "is no value of `log`");
}

#[test]
fn a_missing_file_is_refused() {
    let error = Settings::load(Some(Path::new("/nonexistent/node.toml")), [], &[]).expect_err("refused");
    assert!(error.to_string().starts_with("/nonexistent/node.toml: "), "{error}");
}
