//! `new-plugin`: writes a small plugin and its test. Overwrites nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;

use super::{Exit, complain, print_line};

const PLUGIN: &str = include_str!("../../python/src/mcp_gateway/new_plugin.txt");
const TEST: &str = include_str!("../../python/src/mcp_gateway/new_checks.txt");
/// A function's name begins with it.
const LONGEST: usize = 40;

#[derive(Args)]
pub(super) struct NewPluginArgs {
    /// What the module is called: letters, digits and _
    name: String,
    /// Where to write it
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn new_plugin(args: &NewPluginArgs) -> Exit {
    let name = &args.name;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.chars().all(word) && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !is_name || name.len() > LONGEST || name == "mcp_gateway" {
        let why = format!(
            "\"{name}\" cannot be a plugin's module: write up to {LONGEST} of A-Z a-z 0-9 _, beginning with a letter"
        );
        return complain(&anyhow::anyhow!(why), Exit::Usage);
    }
    let title: String = name.split('_').map(capital).collect();
    let files = [(format!("{name}.py"), PLUGIN), (format!("test_{name}.py"), TEST)];
    let taken = files.iter().map(|(file, _)| args.dir.join(file)).find(|path| path.exists());
    if let Some(path) = taken {
        let why = anyhow::anyhow!("{} is there already; take another name", path.display());
        return complain(&why, Exit::Usage);
    }
    for (file, text) in &files {
        let text = text.replace("@NAME@", name).replace("@TITLE@", &title);
        if let Err(error) = write(&args.dir.join(file), &text) {
            return complain(&error, Exit::Unavailable);
        }
    }
    let folder = fs::canonicalize(&args.dir).unwrap_or_else(|_| args.dir.clone());
    let folder = folder.display();
    print_line(&format!(
        "wrote {name}.py and test_{name}.py in {folder}\n\
         load it:  in gateway.yaml, under `plugins:`\n  - {{file: {folder}/{name}.py}}\n\
         test it:  pip install the gateway's Python package, then python -m unittest test_{name}"
    ))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    File::create_new(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
