//! Operations on images, wherever they lie.

use std::path::PathBuf;

use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::storage::ImageUse;

/// Who needs the image at a path: domains, saved states, snapshots and volumes whose image it is, or
/// whose images lie on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListImageUsers {
    pub path: PathBuf,
}

impl Operation for ListImageUsers {
    type Output = Vec<ImageUse>;
    const NAME: &'static str = "image.users";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("image", self.path.to_string_lossy())
    }

    async fn run(self, cx: &Context) -> Result<Vec<ImageUse>, Error> {
        if !self.path.is_absolute() {
            let path = self.path.display();
            let text = format!("{path} is no absolute path, by which an image is found");
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let node = cx.node.clone();
        blocking(move || Ok(node.users_of(&self.path))).await
    }
}
