//! `backup` and `restore`.

use std::fs;

use crate::{log_in, manifest, server::Server};

const PASSPHRASE: [(&str, &str); 1] = [("OCTELIUM_BACKUP_PASSPHRASE", "correct horse battery")];

#[cfg(unix)]
#[test]
fn a_backup_is_written_as_a_whole_and_restored() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    log_in(&server);
    let path = server.home().join("backup.bin");
    let shown = path.display().to_string();
    let run = server.run_with(&["backup", &shown], &PASSPHRASE, b"");
    assert_eq!(run.out, format!("Saved to {shown} (600028 bytes)\n"), "{}", run.err);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let run = server.run_with(&["backup", &shown], &PASSPHRASE, b"");
    assert_eq!((run.code, run.err.contains("--force")), (1, true), "{}", run.err);
    assert_eq!(server.count("CreateBackup"), 1, "not even asked for");
    assert_eq!(server.run_with(&["backup", &shown, "--force"], &PASSPHRASE, b"").code, 0);

    let run = server.run_with(&["restore", &shown], &PASSPHRASE, b"");
    assert_eq!((run.code, run.err.contains("--yes"), server.count("RestoreBackup")), (2, true, 0), "{}", run.err);
    let run = server.run_with(&["restore", &shown, "--dry-run"], &PASSPHRASE, b"");
    assert_eq!(run.out, "dry run: 2 created from a backup of old.example\n", "{}", run.err);
    let passphrase = manifest(&server, "passphrase", "correct horse battery\n");
    crate::make_private(&passphrase);
    let run = server.run(&["restore", &shown, "--yes", "--prune", "--passphrase-file", &passphrase]);
    assert_eq!(run.out, "2 created, 1 deleted from a backup of old.example\n", "{}", run.err);
    let warning = "warning: the backup is of another cluster: old.example, and this one is test.example";
    assert!(run.err.contains(warning), "{}", run.err);
    assert_eq!(server.count("RestoreBackup"), 3, "each was checked before it was made");
    let run =
        server.run_with(&["restore", &shown, "--yes", "--passphrase-file", "-"], &[], b"another horse's battery\n");
    assert_eq!((run.code, run.err.contains("does not open")), (1, true), "{}", run.err);
}

#[test]
fn a_restore_that_breaks_off_may_have_done_a_part() {
    let server = Server::start();
    log_in(&server);
    let path = server.home().join("backup.bin").display().to_string();
    assert_eq!(server.run_with(&["backup", &path], &PASSPHRASE, b"").code, 0);
    server.break_off();
    let run = server.run_with(&["restore", &path, "--yes"], &PASSPHRASE, b"");
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{}", run.err);
    assert!(run.err.contains("error: part of it may be restored; run it again: internal error: "), "{}", run.err);
}

#[test]
fn a_backup_that_breaks_off_leaves_nothing() {
    let server = Server::start();
    log_in(&server);
    server.break_off();
    let path = server.home().join("backup.bin");
    let run = server.run_with(&["backup", &path.display().to_string()], &PASSPHRASE, b"");
    assert_eq!((run.code, run.out.as_str()), (7, ""), "{}", run.err);
    assert!(run.err.contains("the backup broke off"), "{}", run.err);
    assert!(!path.exists());
    let left: Vec<_> = fs::read_dir(server.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.as_encoded_bytes().starts_with(b".octeliumctl")), "{left:?}");
}

#[test]
fn a_passphrase_must_be_one() {
    let server = Server::start();
    log_in(&server);
    let path = server.home().join("backup.bin").display().to_string();
    let run = server.run_with(&["backup", &path], &[("OCTELIUM_BACKUP_PASSPHRASE", "short")], b"");
    assert_eq!((run.code, run.err.contains("5 bytes; expected 12 to 1024")), (2, true), "{}", run.err);
    let run = server.run(&["backup", &path]);
    assert_eq!((run.code, run.err.contains("--passphrase-file")), (2, true), "{}", run.err);
    let run = server.run_with(&["restore", "/nowhere", "--yes"], &PASSPHRASE, b"");
    assert_eq!((run.code, run.err.contains("/nowhere")), (1, true), "{}", run.err);
    let run = server.run_with(&["restore", ".", "--yes"], &PASSPHRASE, b"");
    assert_eq!(run.code, 2, "{}", run.err);
    assert_eq!(server.count("RestoreBackup"), 0);
}
