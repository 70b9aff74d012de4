//! Changing the configuration file for the operator, who keeps every comment and all of its order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::shape::Shape;
use super::staged::{Staged, text_of};
use super::{Access, SettingValue};
use crate::limit;
use crate::policy::GrantEntry;
use crate::secret::SecretSource;

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file can't be read or written.
    #[error("{} can't be {verb}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The file was read, and is no configuration at all.
    #[error("{} can't be read: {source}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A symbolic link stands there, and no file is found through it.
    #[error("{} is a symbolic link that can't be followed: {source}", path.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is somebody else's, and what is to replace it can't be.
    #[error("{} belongs to user {user} and group {group}, and can't be replaced by one that does: {source}", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        user: u32,
        /// Its group.
        group: u32,
        /// Why not.
        source: std::io::Error,
    },
    /// The file would be longer than any that is read.
    #[error("{} would have more than {} bytes, and could not be read any more", .0.display(), super::FILE_BYTES_MAX)]
    TooLong(PathBuf),
    /// The file is no TOML.
    #[error("{} is not valid TOML: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        source: toml_edit::TomlError,
    },
    /// The file is not any more what the change was made from, or is just being changed.
    #[error("{} was changed by someone else meanwhile, or its folder is locked; look at it, and try again", .0.display())]
    Outdated(PathBuf),
    /// There is a channel of that name.
    #[error("there is a channel {0:?} already")]
    Exists(String),
    /// There is no channel of that name.
    #[error("there is no channel {0:?}")]
    Unknown(String),
    /// `channels` is something else than a table of tables.
    #[error("`channels` is not written as tables [channels.NAME]")]
    Form,
}

/// A channel that is to be written.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its name.
    pub name: String,
    /// A bundled name, or a path that starts from the file's folder.
    pub component: String,
    /// SHA-256 of the component that was reviewed; none for a bundled one.
    pub sha256: Option<String>,
    /// The agent; none for the default.
    pub agent: Option<String>,
    /// Who may talk.
    pub access: Option<Access>,
    /// Where its secrets come from; paths start from the file's folder.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Its settings.
    pub settings: BTreeMap<String, SettingValue>,
    /// What it may do.
    pub grants: Vec<GrantEntry>,
}

/// A configuration file that is being changed. Nothing is written before [`Editor::save`].
#[derive(Debug)]
pub struct Editor {
    path: PathBuf,
    document: DocumentMut,
    /// The file's text as it was opened; empty where there was no file.
    before: String,
}

impl Editor {
    /// Opens a file; one that does not exist is an empty one. A symbolic link is followed, so that it stays a link.
    ///
    /// # Errors
    /// [`EditError::File`], also where something stands there that is no file, [`EditError::Link`], [`EditError::Unfit`]
    /// and [`EditError::Syntax`].
    pub fn open(path: &Path) -> Result<Self, EditError> {
        let followed = std::fs::canonicalize(path);
        // A pipe or a device would be replaced by a file.
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            let path = followed.unwrap_or_else(|_| path.to_owned());
            let source = std::io::Error::other("it is not a regular file");
            let verb = "changed";
            return Err(EditError::File { path, verb, source });
        }
        let path = match followed {
            Ok(path) => path,
            // The link would be replaced by a file, and its owner wanted that one to be somewhere else.
            Err(source) if path.is_symlink() => {
                let path = path.to_owned();
                return Err(EditError::Link { path, source });
            }
            Err(_) => path.to_owned(),
        };
        let text = text_of(&path)?;
        Self::of(path, text)
    }

    fn of(path: PathBuf, before: String) -> Result<Self, EditError> {
        let parsed = Shape::of(&before).taken_off(&before).parse::<DocumentMut>();
        match parsed {
            Ok(document) => Ok(Self { path, document, before }),
            Err(source) => Err(EditError::Syntax { path, source }),
        }
    }

    /// Returns the file, with links followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text as it was when it was opened.
    pub fn before(&self) -> &str {
        &self.before
    }

    /// Returns the text as it would be saved.
    pub fn text(&self) -> String {
        Shape::of(&self.before).put_on(self.document.to_string())
    }

    /// Returns the names of the channels that stand in it.
    pub fn channel_names(&self) -> impl Iterator<Item = &str> {
        let channels = self.document.get("channels").and_then(Item::as_table_like);
        channels
            .into_iter()
            .flat_map(|table| table.iter().map(|(name, _)| name))
    }

    /// Returns whether a channel of this name stands in it.
    pub fn has_channel(&self, name: &str) -> bool {
        self.channel_names().any(|known| known == name)
    }

    /// Adds a channel at the end of the channels.
    ///
    /// # Errors
    /// [`EditError::Exists`] and [`EditError::Form`].
    pub fn add_channel(&mut self, draft: &Draft) -> Result<(), EditError> {
        let channels = self.document.entry("channels").or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let channels = channels.as_table_like_mut().ok_or(EditError::Form)?;
        if channels.contains_key(&draft.name) {
            return Err(EditError::Exists(draft.name.clone()));
        }
        let mut table = channel_table(draft);
        if !(channels.is_empty() && self.path_is_new()) {
            table.decor_mut().set_prefix("\n");
        }
        match &mut self.document["channels"] {
            Item::Table(channels) => {
                channels.insert(&draft.name, Item::Table(table));
            }
            // In `channels = { … }` nothing has a heading of its own.
            Item::Value(Value::InlineTable(channels)) => {
                close_up(channels);
                channels.insert(draft.name.as_str(), Value::from(table.into_inline_table()));
            }
            _ => return Err(EditError::Form),
        }
        Ok(())
    }

    /// Removes a channel. Comments that stand apart above it, such as the file's own heading, stay.
    ///
    /// # Errors
    /// [`EditError::Unknown`] and [`EditError::Form`].
    pub fn remove_channel(&mut self, name: &str) -> Result<(), EditError> {
        let unknown = || EditError::Unknown(name.to_owned());
        let channels = self.document.get_mut("channels").ok_or_else(unknown)?;
        let channels = channels.as_table_like_mut().ok_or(EditError::Form)?;
        let removed = channels.remove(name).ok_or_else(unknown)?;
        if let Some(table) = removed.as_table() {
            let above = table
                .decor()
                .prefix()
                .and_then(|prefix| prefix.as_str())
                .unwrap_or_default();
            let kept = above.rfind("\n\n").map_or("", |end| &above[..=end]).to_owned();
            if !kept.trim().is_empty() {
                let position = table.position();
                self.put_above_next(position, &kept);
            }
        }
        Ok(())
    }

    /// Pauses a channel, or lets it go on.
    ///
    /// # Errors
    /// [`EditError::Unknown`] and [`EditError::Form`].
    pub fn set_paused(&mut self, name: &str, paused: bool) -> Result<(), EditError> {
        let table = self.channel(name)?;
        if paused {
            table.insert("paused", toml_edit::value(true));
        } else {
            table.remove("paused");
        }
        Ok(())
    }

    /// Writes what a channel may do, in place of what it might.
    ///
    /// # Errors
    /// [`EditError::Unknown`] and [`EditError::Form`].
    pub fn set_grants(&mut self, name: &str, grants: &[GrantEntry]) -> Result<(), EditError> {
        let table = self.channel(name)?;
        if grants.is_empty() {
            table.remove("grant");
        } else {
            table.insert(
                "grant",
                toml_edit::value(grants.iter().map(grant_value).collect::<Array>()),
            );
        }
        Ok(())
    }

    /// Writes the digest of a channel's reviewed component.
    ///
    /// # Errors
    /// [`EditError::Unknown`] and [`EditError::Form`].
    pub fn set_digest(&mut self, name: &str, digest: &str) -> Result<(), EditError> {
        self.channel(name)?.insert("sha256", toml_edit::value(digest));
        Ok(())
    }

    fn channel(&mut self, name: &str) -> Result<&mut dyn TableLike, EditError> {
        let unknown = || EditError::Unknown(name.to_owned());
        let channels = self.document.get_mut("channels").ok_or_else(unknown)?;
        let channels = channels.as_table_like_mut().ok_or(EditError::Form)?;
        let channel = channels.get_mut(name).ok_or_else(unknown)?;
        channel.as_table_like_mut().ok_or(EditError::Form)
    }

    /// Changes a file that others may change too: where it was changed between reading and writing it, the change is made
    /// again, to what stands there then.
    ///
    /// # Errors
    /// Those of `change`, of [`Editor::open`] and [`Editor::stage`] and, where the others never rest,
    /// [`EditError::Outdated`].
    pub fn edit(path: &Path, change: impl Fn(&mut Self) -> Result<(), EditError>) -> Result<(), EditError> {
        again_where_outdated(|| {
            let mut editor = Self::open(path)?;
            change(&mut editor)?;
            editor.put()
        })
    }

    /// Saves it, and tells that somebody else's change was faster from what is wrong.
    ///
    /// # Errors
    /// As [`Editor::stage`].
    pub fn put(&self) -> Result<Put<()>, EditError> {
        match self.save() {
            Ok(()) => Ok(Put::Done(())),
            Err(EditError::Outdated(file)) => Ok(Put::Outdated(file)),
            Err(error) => Err(error),
        }
    }

    /// Writes the file whole or not at all: a temporary file beside it, flushed, then renamed over it.
    ///
    /// # Errors
    /// As [`Editor::stage`], and [`EditError::Outdated`] where someone else changed the file since it was opened.
    pub fn save(&self) -> Result<(), EditError> {
        self.stage()?.commit()
    }

    /// Writes the changed file beside the old one, for a gateway that is to make the change.
    ///
    /// # Errors
    /// [`EditError::File`], [`EditError::Owner`] and [`EditError::TooLong`].
    pub fn stage(&self) -> Result<Staged, EditError> {
        Staged::write(&self.path, &self.text(), &self.before)
    }

    fn path_is_new(&self) -> bool {
        self.document.iter().all(|(_, item)| {
            item.as_table()
                .is_some_and(|table| table.is_implicit() && table.is_empty())
        })
    }

    /// Puts comments above the table that comes next in the file, or at its end.
    fn put_above_next(&mut self, position: Option<isize>, comments: &str) {
        let mut next: Option<&mut Table> = None;
        let mut tables = Vec::new();
        collect_tables(self.document.as_table_mut(), &mut tables);
        for table in tables {
            let is_after = table.position() > position;
            if is_after && next.as_ref().is_none_or(|found| table.position() < found.position()) {
                next = Some(table);
            }
        }
        if let Some(table) = next {
            let own = table
                .decor()
                .prefix()
                .and_then(|prefix| prefix.as_str())
                .unwrap_or_default()
                .to_owned();
            table
                .decor_mut()
                .set_prefix(format!("{}\n{}", comments, own.trim_start_matches('\n')));
            return;
        }
        let trailing = self.document.trailing().as_str().unwrap_or_default().to_owned();
        self.document.set_trailing(format!("{comments}{trailing}"));
    }
}

/// What came of one try to change the file.
#[derive(Debug)]
pub enum Put<T> {
    /// It was changed.
    Done(T),
    /// It was not, this file: somebody else's change was faster.
    Outdated(PathBuf),
}

/// Makes a change, again each time somebody else's was faster, up to [`limit::CONFIG_EDIT_TRIES_MAX`] times: `put` opens
/// the file and changes what stands there then.
///
/// # Errors
/// Those of `put` and, where the others never rest, [`EditError::Outdated`].
pub fn again_where_outdated<T, E: From<EditError>>(mut put: impl FnMut() -> Result<Put<T>, E>) -> Result<T, E> {
    let mut tries = 1;
    loop {
        match put()? {
            Put::Done(made) => return Ok(made),
            Put::Outdated(_) if tries < limit::CONFIG_EDIT_TRIES_MAX => tries += 1,
            Put::Outdated(file) => return Err(EditError::Outdated(file).into()),
        }
    }
}

/// Collects the tables that have a heading of their own.
fn collect_tables<'a>(table: &'a mut Table, found: &mut Vec<&'a mut Table>) {
    for (_, item) in table.iter_mut() {
        let Item::Table(table) = item else { continue };
        if table.is_implicit() {
            collect_tables(table, found);
        } else {
            found.push(table);
        }
    }
}

fn channel_table(draft: &Draft) -> Table {
    let mut table = Table::new();
    table["component"] = toml_edit::value(&draft.component);
    if let Some(digest) = &draft.sha256 {
        table["sha256"] = toml_edit::value(digest);
    }
    if let Some(agent) = &draft.agent {
        table["agent"] = toml_edit::value(agent);
    }
    match &draft.access {
        None => {}
        Some(Access::Open) => table["access"] = toml_edit::value("open"),
        Some(Access::Allow(senders)) => {
            table["access"] = toml_edit::value(inline([("allow", Value::from(senders.iter().collect::<Array>()))]));
        }
    }
    if !draft.secrets.is_empty() {
        let entries = draft
            .secrets
            .iter()
            .map(|(name, source)| (name.as_str(), secret_value(source)));
        table["secrets"] = toml_edit::value(inline(entries));
    }
    if !draft.settings.is_empty() {
        let entries = draft
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), setting_value(value)));
        table["settings"] = toml_edit::value(inline(entries));
    }
    if !draft.grants.is_empty() {
        table["grant"] = toml_edit::value(draft.grants.iter().map(grant_value).collect::<Array>());
    }
    table
}

/// Takes away the space before the closing brace: what comes next has a comma before it.
fn close_up(table: &mut InlineTable) {
    if let Some((_, last)) = table.iter_mut().last() {
        let is_space = |text: &str| text.trim_matches(' ').is_empty();
        if last
            .decor()
            .suffix()
            .and_then(|suffix| suffix.as_str())
            .is_some_and(is_space)
        {
            last.decor_mut().set_suffix("");
        }
    }
}

fn inline<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> InlineTable {
    entries.into_iter().collect()
}

fn secret_value(source: &SecretSource) -> Value {
    let entry = match source {
        SecretSource::Env(name) => ("env", Value::from(name.as_str())),
        SecretSource::File(path) => ("file", Value::from(path.to_string_lossy().as_ref())),
        SecretSource::Keyring(name) => ("keyring", Value::from(name.as_str())),
    };
    Value::from(inline([entry]))
}

fn setting_value(value: &SettingValue) -> Value {
    match value {
        SettingValue::Text(text) => Value::from(text),
        SettingValue::Integer(number) => Value::from(*number),
        SettingValue::Float(number) => Value::from(*number),
        SettingValue::Boolean(value) => Value::from(*value),
        SettingValue::Texts(texts) => Value::from(texts.iter().collect::<Array>()),
    }
}

fn grant_value(grant: &GrantEntry) -> Value {
    match grant {
        GrantEntry::Endpoint(endpoint) if endpoint.private => {
            let url = Value::from(endpoint.endpoint.to_string());
            Value::from(inline([("url", url), ("private", Value::from(true))]))
        }
        GrantEntry::Endpoint(endpoint) => Value::from(endpoint.endpoint.to_string()),
        GrantEntry::Terminal | GrantEntry::Reveal(_) | GrantEntry::Folder(_) => Value::from(grant.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# My gateway.\n\n[agents.main]\nkind = \"echo\" # for now\n\n# The family's bot.\n\
                        [channels.family]\ncomponent = \"telegram\"\n\n[channels.notes]\ncomponent = \"webhook\"\n";

    fn editor(text: &str) -> Editor {
        Editor::of("sluicegate.toml".into(), text.to_owned()).unwrap()
    }

    fn draft(name: &str) -> Draft {
        Draft {
            name: name.to_owned(),
            component: "telegram".to_owned(),
            sha256: None,
            agent: Some("main".to_owned()),
            access: Some(Access::Allow(["12345".to_owned()].into())),
            secrets: [("bot-token".to_owned(), SecretSource::Env("TOKEN".to_owned()))].into(),
            settings: [("mode".to_owned(), SettingValue::Text("poll".to_owned()))].into(),
            grants: vec!["https://api.telegram.org".parse().unwrap()],
        }
    }

    #[test]
    fn an_added_channel_stands_at_the_end_and_the_rest_is_untouched() {
        let mut editor = editor(FILE);
        editor.add_channel(&draft("work")).unwrap();
        let added = "\n[channels.work]\ncomponent = \"telegram\"\nagent = \"main\"\naccess = { allow = [\"12345\"] }\n\
                     secrets = { bot-token = { env = \"TOKEN\" } }\nsettings = { mode = \"poll\" }\n\
                     grant = [\"https://api.telegram.org\"]\n";
        assert_eq!(editor.text(), format!("{FILE}{added}"));
        assert!(matches!(editor.add_channel(&draft("work")), Err(EditError::Exists(_))));
    }

    #[test]
    fn the_first_channel_of_an_empty_file_stands_at_its_top() {
        let mut editor = editor("");
        editor.add_channel(&draft("work")).unwrap();
        assert!(editor.text().starts_with("[channels.work]\n"), "{}", editor.text());
    }

    #[test]
    fn a_removed_channel_takes_only_its_own_comment_along() {
        let mut editor = editor(FILE);
        editor.remove_channel("family").unwrap();
        assert_eq!(
            editor.text(),
            "# My gateway.\n\n[agents.main]\nkind = \"echo\" # for now\n\n[channels.notes]\ncomponent = \"webhook\"\n"
        );
        assert!(matches!(editor.remove_channel("family"), Err(EditError::Unknown(_))));
    }

    #[test]
    fn a_heading_of_the_file_outlives_its_first_channel() {
        let text = "# My gateway.\n\n# A bot.\n[channels.a]\ncomponent = \"telegram\"\n\n# B bot.\n[channels.b]\ncomponent = \"webhook\"\n";
        let mut first = editor(text);
        first.remove_channel("a").unwrap();
        assert_eq!(
            first.text(),
            "# My gateway.\n\n# B bot.\n[channels.b]\ncomponent = \"webhook\"\n"
        );
        first.remove_channel("b").unwrap();
        assert_eq!(first.text(), "# My gateway.\n");
    }

    #[test]
    fn one_key_changes_and_every_comment_stays() {
        let mut editor = editor(FILE);
        editor.set_paused("family", true).unwrap();
        editor
            .set_grants("family", &["https://a.example".parse().unwrap()])
            .unwrap();
        editor.set_digest("family", "00ff").unwrap();
        let family = "component = \"telegram\"\n";
        let changed = format!("{family}paused = true\ngrant = [\"https://a.example\"]\nsha256 = \"00ff\"\n");
        assert_eq!(editor.text(), FILE.replace(family, &changed));
        editor.set_paused("family", false).unwrap();
        editor.set_grants("family", &[]).unwrap();
        assert_eq!(
            editor.text(),
            FILE.replace(family, &format!("{family}sha256 = \"00ff\"\n"))
        );
        assert!(matches!(editor.set_paused("nobody", true), Err(EditError::Unknown(_))));
    }

    #[test]
    fn saving_replaces_the_file_and_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = std::env::temp_dir().join(format!("sluicegate-edit-{}", crate::id::random_hex::<6>()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("sluicegate.toml");
        std::fs::write(&path, FILE).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut editor = Editor::open(&path).unwrap();
        editor.remove_channel("notes").unwrap();
        editor.save().unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("notes"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            1,
            "no temporary file is left"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
