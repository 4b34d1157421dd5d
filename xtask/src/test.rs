//! x
use anyhow::Result;
pub(crate) fn test(_steps: &[&str]) -> Result<()> {
    crate::setup::browser::browser()?;
    Ok(())
}
