//! Programs that are given what makes no sense, or nobody to read what they say.

use super::{Dev, GTSTORE, code, run, text};
use std::process::{Command, Stdio};
use tempfile::TempDir;

#[test]
fn every_program_that_is_misused_says_how_to_get_help() {
    for (program, name) in [
        (GTSTORE, "gtstore help"),
        (env!("CARGO_BIN_EXE_gtstore-manager"), "gtstore-manager --help"),
        (env!("CARGO_BIN_EXE_gtstore-storage"), "gtstore-storage --help"),
        (env!("CARGO_BIN_EXE_gtstore-load"), "gtstore-load --help"),
        (env!("CARGO_BIN_EXE_gtstore-sim"), "gtstore-sim --help"),
    ] {
        for wrong in ["--nonsense", "stray"] {
            let output = Command::new(program).arg(wrong).output().unwrap();
            assert_eq!(code(&output), 2, "{program} {wrong}");
            let said = text(&output.stderr);
            assert!(said.contains(&format!("Try '{name}'.")), "{program} {wrong}: {said}");
        }
    }
}

#[test]
fn a_data_directory_that_is_a_plain_file_is_said_to_be_none() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"mine").unwrap();
    let file = file.to_str().unwrap();
    for (program, args) in [
        (GTSTORE, &["dev", "--no-shell", "--data-dir", file][..]),
        (env!("CARGO_BIN_EXE_gtstore-manager"), &["--listen", "127.0.0.1:0", "--data-dir", file]),
        (env!("CARGO_BIN_EXE_gtstore-storage"), &["--listen", "127.0.0.1:0", "--data-dir", file]),
        (env!("CARGO_BIN_EXE_gtstore-storage"), &["--check", file]),
    ] {
        let output = Command::new(program).args(args).output().unwrap();
        assert_eq!(code(&output), 1, "{program}");
        let said = text(&output.stderr);
        assert!(said.contains("file is not a directory"), "{program}: {said}");
    }
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
}

#[test]
fn an_argument_that_is_no_text_is_refused_and_not_replaced() {
    use std::os::unix::ffi::OsStrExt;
    let key = std::ffi::OsStr::from_bytes(b"c\xff");
    let output =
        Command::new(env!("CARGO_BIN_EXE_gtstore")).args(["put".as_ref(), key, "one".as_ref()]).output();
    let output = output.unwrap();
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("not UTF-8"), "{}", text(&output.stderr));
}

#[test]
fn a_simulation_of_nothing_is_refused() {
    for option in ["--ops", "--threads"] {
        let args = ["--seeds", "0..1", option, "0"];
        let output = Command::new(env!("CARGO_BIN_EXE_gtstore-sim")).args(args).output().unwrap();
        assert_eq!(code(&output), 2, "{option}");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("{option} takes a number from 1 on")), "{said}");
    }
}

#[test]
fn a_reader_that_has_had_enough_ends_a_command_as_it_ends_other_programs() {
    let dev = Dev::start(1, 1, None);
    let value = "x".repeat(1000);
    let lines: String = (0..500).map(|at| format!("key{at}\t{value}\n")).collect();
    assert_eq!(code(&run(dev.manager(), &["import", "-"], lines.as_bytes())), 0);
    let mut export = Command::new(GTSTORE)
        .args(["export", "-", "-m", dev.manager()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(export.stdout.take());
    let output = export.wait_with_output().unwrap();
    assert_eq!((code(&output), text(&output.stderr).as_str()), (141, ""));
}
