//! `orbyt man` and `orbyt completions`: the manual pages and the completions of shells, made from the definition of the command line.

use super::args::{Cli, Completed, ManArgs};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io;
use std::path::Path;

/// What the definition of the command line does not say. In roff: `.SH` begins a section, `.TP` an entry.
const MORE: &str = r"
.SH ENVIRONMENT
Every setting that has a variable is listed in docs/configuration.md. The most common ones:
.TP
.B OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, \fR...
A provider is in use when its key is set.
.TP
.B ORBYT_CONFIG
The configuration file, where \-c names none.
.TP
.B ORBYT_API_KEYS
Keys that clients may use, with commas between them. Without any, one is made on the first start.
.TP
.B ORBYT_ADMIN_TOKEN
The administrator's token.
.TP
.B DATABASE_URL, REDIS_URL
Postgres in the place of the file, and what several nodes share.
.SH FILES
.TP
.I /etc/orbyt/orbyt.toml
The configuration of the service.
.TP
.I /etc/orbyt/orbyt.env
Variables of the service, such as keys of providers.
.TP
.I .env
Variables, read from the working directory.
.TP
.I $STATE_DIRECTORY\fR, else \fI~/.local/share/orbyt
The data directory: the database, the master key, the spool of the ledger.
.SH SIGNALS
.TP
.B SIGTERM, SIGINT
No new connections; requests in flight may end within [server] grace. A second one ends at once.
.TP
.B SIGHUP
Reads the configuration again. A bad one is refused as a whole, and told in the log.
.SH EXIT STATUS
0 when it did what it was asked, 1 when it did not, 2 when the command line is wrong.
";

/// The completions of a shell.
pub fn completions(shell: Completed) -> String {
    let shell = match shell {
        Completed::Bash => Shell::Bash,
        Completed::Zsh => Shell::Zsh,
        Completed::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "orbyt", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The manual page; or, where a folder is named, its name after it and those of all commands were written there.
///
/// # Errors
/// When they cannot be written.
pub fn manual(args: &ManArgs) -> Result<String, String> {
    let page = main_page().map_err(|error| format!("error: {error}"))?;
    let Some(folder) = &args.dir else { return Ok(String::from_utf8_lossy(&page).into_owned()) };
    write_pages(folder, &page).map_err(|error| format!("error: {}: {error}", folder.display()))?;
    Ok(String::new())
}

fn write_pages(folder: &Path, main: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Each command's by itself first; the main one then takes the place of what was made for it.
    clap_mangen::generate_to(command(), folder)?;
    std::fs::write(folder.join("orbyt.1"), main)
}

/// `orbyt help` is a way to ask for what these pages say.
fn command() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}

fn main_page() -> io::Result<Vec<u8>> {
    let man = Man::new(command()).manual("Orbyt");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    page.extend_from_slice(MORE.trim_start().as_bytes());
    man.render_version_section(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_command_and_has_all_sections() {
        let page = manual(&ManArgs::default()).unwrap();
        for command in command().get_subcommands() {
            let name = format!("orbyt\\-{}(1)", command.get_name().replace('-', "\\-"));
            assert!(page.contains(&name), "{name} is not in\n{page}");
        }
        for section in
            ["NAME", "SYNOPSIS", "OPTIONS", "SUBCOMMANDS", "ENVIRONMENT", "FILES", "SIGNALS", "EXIT STATUS", "VERSION"]
        {
            assert!(
                page.lines().any(|line| line.trim_matches('"').replace('"', "") == format!(".SH {section}")),
                "{section}: {page}"
            );
        }
    }

    #[test]
    fn every_command_has_a_page_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        manual(&ManArgs { dir: Some(folder.path().to_owned()) }).unwrap();
        for page in ["orbyt.1", "orbyt-serve.1", "orbyt-keys.1", "orbyt-keys-create.1", "orbyt-vault-rotate.1"] {
            let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".TH"), "{page}: {text}");
        }
        assert!(std::fs::read_to_string(folder.path().join("orbyt.1")).unwrap().contains(".SH SIGNALS"));
    }

    #[test]
    fn every_shell_completes_commands_and_options() {
        for shell in [Completed::Bash, Completed::Zsh, Completed::Fish] {
            let text = completions(shell);
            assert!(text.contains("reset-token") && text.contains("overlap"), "{shell:?}: {text}");
        }
    }
}
