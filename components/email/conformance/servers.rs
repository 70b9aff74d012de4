//! Dovecot and OpenSMTPD on free ports, with a folder and a certificate of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use harness::{PATIENCE, TempFolder};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::LOOK_PERIOD;
use crate::platform::{Skipped, on_free_ports, program};

/// The servers; they end with this.
pub(super) struct Servers {
    /// Where Dovecot speaks IMAP.
    pub(super) imap: u16,
    /// Where it takes mails of people who log in.
    pub(super) submission: u16,
    lmtp: u16,
    folder: TempFolder,
    dovecot: Child,
    smtpd: Child,
    smtpctl: PathBuf,
}

/// The file with the addresses that OpenSMTPD refuses.
const GONE: &str = "gone";
/// OpenSMTPD learns what kind of table it is from what stands in it at the start.
const NOBODY: &str = "nobody@y.example\n";

impl Servers {
    /// Starts both.
    pub(super) async fn start(password: &str) -> Result<Self, Skipped> {
        let dovecot = program("dovecot", "dovecot-imapd, dovecot-lmtpd and dovecot-submissiond")?;
        let smtpd = program("smtpd", "opensmtpd")?;
        let start = |ports| Self::start_on(ports, &dovecot, &smtpd, password);
        Ok(on_free_ports("the mail servers", start, Self::has_ended).await)
    }

    fn start_on(ports: [u16; 4], dovecot: &Path, smtpd: &Path, password: &str) -> Self {
        let [imap, lmtp, submission, relay] = ports;
        let folder = TempFolder::new();
        certify(folder.path());
        folder.write("users", &user(password));
        open_to_all(folder.path());
        std::fs::create_dir(folder.path().join("mail")).expect("the folder can be written");
        open_to_all(&folder.path().join("mail"));
        let file = folder.write("dovecot.conf", &dovecot_configuration(folder.path(), ports));
        let dovecot = start(dovecot, &["-F", "-c"], &file);
        folder.write(GONE, NOBODY);
        open_to_all(&folder.path().join(GONE));
        let file = folder.write("smtpd.conf", &smtpd_configuration(folder.path(), relay, lmtp));
        let smtpctl = smtpd.with_file_name("smtpctl");
        let smtpd = start(smtpd, &["-d", "-f"], &file);
        Self {
            imap,
            submission,
            lmtp,
            folder,
            dovecot,
            smtpd,
            smtpctl,
        }
    }

    fn has_ended(&mut self) -> bool {
        let mut both = [&mut self.dovecot, &mut self.smtpd].into_iter();
        both.any(|child| child.try_wait().expect("it is our child").is_some())
    }

    /// Returns the file with the certificate that the gateway has to trust.
    pub(super) fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Changes the bot's password, and waits until Dovecot takes the new one. Who is logged in stays so.
    pub(super) async fn set_password(&self, password: &str) {
        self.folder.write("users", &user(password));
        let started = Instant::now();
        // Dovecot looks at the file once a second.
        while !self.takes(password) {
            assert!(started.elapsed() < PATIENCE, "Dovecot has not read the new password");
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    fn takes(&self, password: &str) -> bool {
        let mut asked = Command::new("doveadm");
        asked.arg("-c").arg(self.folder.path().join("dovecot.conf"));
        asked.args(["auth", "test", "bot", password]);
        let asked = asked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().expect("doveadm comes with Dovecot").success()
    }

    /// Lets OpenSMTPD refuse an address as that of nobody from now on.
    pub(super) async fn remove_mailbox(&self, address: &str) {
        let gone = self.folder.path().join(GONE);
        let mut addresses = std::fs::read_to_string(&gone).expect("it is ours");
        addresses.push_str(address);
        addresses.push('\n');
        std::fs::write(&gone, addresses).expect("it is ours");
        let mut update = Command::new(&self.smtpctl);
        update.args(["update", "table", GONE]);
        let output = update.output().expect("smtpctl comes with OpenSMTPD");
        assert!(output.status.success(), "smtpctl: {output:?}");
    }

    /// Hands a mail in as another server would.
    pub(super) async fn hand_in(&self, from: &str, to: &str, mail: &str) {
        let stream = TcpStream::connect(("127.0.0.1", self.lmtp))
            .await
            .expect("Dovecot is up");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a greeting");
        let ends = if mail.ends_with("\r\n") { "" } else { "\r\n" };
        let commands = [
            ("LHLO test".to_owned(), "250 "),
            (format!("MAIL FROM:<{from}>"), "250 "),
            (format!("RCPT TO:<{to}>"), "250 "),
            ("DATA".to_owned(), "354 "),
            (format!("{mail}{ends}."), "250 "),
        ];
        for (command, expected) in commands {
            stream
                .write_all(format!("{command}\r\n").as_bytes())
                .await
                .expect("Dovecot takes it");
            loop {
                line.clear();
                let count = stream.read_line(&mut line).await.expect("an answer");
                assert!(count > 0 && line.starts_with(&expected[..3]), "{command}: {line}");
                if line.starts_with(expected) {
                    break;
                }
            }
        }
    }

    /// Returns whether somebody waits for the bot's mails: Dovecot writes that into the title of its process.
    pub(super) fn is_watched(&self) -> bool {
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return false;
        };
        let own = processes
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|process| parent(process) == Some(self.dovecot.id()));
        let titles = own.filter_map(|process| std::fs::read(process.join("cmdline")).ok());
        let mut titles = titles.map(|title| String::from_utf8_lossy(&title).into_owned());
        titles.any(|title| title.contains("imap") && title.contains("[bot ") && title.contains("IDLE"))
    }

    /// Returns the mails in somebody's mailbox, oldest first.
    pub(super) fn mails_of(&self, address: &str) -> Vec<Vec<u8>> {
        let name = address.split('@').next().unwrap_or_default();
        let folder = self.folder.path().join("mail").join(name).join("new");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        files.sort_by_key(|file| delivered_at(file));
        files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in [&mut self.dovecot, &mut self.smtpd] {
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                continue;
            }
            // Both end their helpers when they are asked to, and leave them behind when they are killed.
            Command::new("kill").arg(child.id().to_string()).status().ok();
            child.wait().ok();
        }
    }
}

/// Returns the process that started another.
fn parent(process: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// Returns when a mail was delivered, in seconds and microseconds, as its name in a maildir says: `1700000000.M5P77.host`.
/// Dovecot writes no leading zeros, so the names themselves are not in order.
fn delivered_at(file: &Path) -> Option<(u64, u64)> {
    let (seconds, rest) = file.file_name()?.to_str()?.split_once(".M")?;
    let (micros, _) = rest.split_once('P')?;
    Some((seconds.parse().ok()?, micros.parse().ok()?))
}

fn start(server: &Path, arguments: &[&str], file: &Path) -> Child {
    let mut command = Command::new(server);
    command.args(arguments).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the mail server starts")
}

fn user(password: &str) -> String {
    format!("bot:{{PLAIN}}{password}:::::::\n")
}

/// The servers' helpers run as users of their own.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = if path.is_dir() { 0o777 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// Writes an authority, and a certificate of it for this machine.
fn certify(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    let own = key();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = CertificateParams::new(names).expect("plain names");
    let certificate = params.signed_by(&own, &authority).expect("a certificate");
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("the folder can be written");
    write("authority.pem", authority.pem());
    write("server.pem", certificate.pem());
    write("server.key", own.serialize_pem());
}

fn dovecot_configuration(folder: &Path, [imap, lmtp, submission, relay]: [u16; 4]) -> String {
    let folder = folder.display();
    format!(
        "base_dir = {folder}/run\nstate_dir = {folder}/run\nlog_path = {folder}/dovecot.log\n\
         protocols = imap lmtp submission\nlisten = 127.0.0.1\nhostname = mail.x.example\n\
         ssl = required\nssl_cert = <{folder}/server.pem\nssl_key = <{folder}/server.key\n\
         auth_mechanisms = plain\nauth_username_format = %n\nauth_failure_delay = 0\nverbose_proctitle = yes\nfirst_valid_uid = 1\n\
         mail_location = maildir:{folder}/mail/%n\n\
         passdb {{\n driver = passwd-file\n args = {folder}/users\n}}\n\
         userdb {{\n driver = static\n args = uid=mail gid=mail home={folder}/mail/%n allow_all_users=yes\n}}\n\
         submission_relay_host = 127.0.0.1\nsubmission_relay_port = {relay}\n\
         service imap-login {{\n inet_listener imap {{\n port = {imap}\n }}\n inet_listener imaps {{\n port = 0\n }}\n}}\n\
         service lmtp {{\n inet_listener lmtp {{\n port = {lmtp}\n }}\n}}\n\
         service submission-login {{\n inet_listener submission {{\n port = {submission}\n }}\n}}\n\
         service anvil {{\n unix_listener anvil-auth-penalty {{\n mode = 0\n }}\n}}\n"
    )
}

fn smtpd_configuration(folder: &Path, relay: u16, lmtp: u16) -> String {
    let gone = folder.join(GONE);
    format!(
        "table users {{ \"@\" = mail }}\ntable {GONE} file:{}\n\
         filter \"{GONE}\" phase rcpt-to match rcpt-to <{GONE}> reject \"550 5.1.1 nobody has this mailbox\"\n\
         listen on 127.0.0.1 port {relay} filter \"{GONE}\"\n\
         action \"deliver\" lmtp \"127.0.0.1:{lmtp}\" rcpt-to virtual <users>\n\
         match from any for domain {{ \"x.example\", \"y.example\" }} action \"deliver\"\n",
        gone.display()
    )
}

#[test]
fn mails_are_in_the_order_of_their_delivery() {
    let later = delivered_at(Path::new("new/1700000000.M123456P9.host,S=10,W=11"));
    assert_eq!(later, Some((1_700_000_000, 123_456)));
    assert!(delivered_at(Path::new("new/1700000000.M98765P10.host")) < later);
    assert_eq!(delivered_at(Path::new("new/x")), None);
}
