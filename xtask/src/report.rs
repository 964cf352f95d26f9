//! Parts of `docs/simulator.md` that commands write: each between two marks that name it.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

const PAGE: &str = "docs/simulator.md";

/// Puts `text` between the marks of the part `name`.
pub(crate) fn write(workspace: &Workspace, name: &str, text: &str) -> Result<()> {
    let path = workspace.path(PAGE);
    let before = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let after = replaced(&before, name, text)
        .with_context(|| format!("{PAGE} has no <!-- {name} --> and <!-- /{name} -->"))?;
    fs::write(&path, after).with_context(|| format!("could not write {}", path.display()))?;
    println!("{PAGE} says it now");
    Ok(())
}

fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        assert_eq!(replaced(page, "x", "new\n").as_deref(), Some("a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"));
        assert_eq!(replaced(page, "y", "new"), None);
    }
}
