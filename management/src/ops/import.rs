//! Moving in from another libvirt.

use crate::auth::Access;
use crate::domain::actor::blocking;
use crate::error::{Code, Error};
use crate::import::{self, Deed, Import, ImportKind, Judgement, MOST_DOCUMENTS};
use crate::jobs::Job;
use crate::manager::{Context, Operation};

/// Say what would become of each definition.
#[derive(Clone, PartialEq, Eq)]
pub struct PlanImport(pub Import);

impl Operation for PlanImport {
    type Output = Vec<Judgement>;
    const NAME: &'static str = "import.plan";
    // It is much work, and for who could do it.
    const ACCESS: Access = Access::Write;

    fn is_audited(&self) -> bool {
        false
    }

    async fn run(self, cx: &Context) -> Result<Vec<Judgement>, Error> {
        let judged = judge(cx, self.0).await?;
        Ok(judged.into_iter().map(|(judgement, _)| judgement).collect())
    }
}

/// Take over what can be: as one job, which can be done again however far it came.
#[derive(Clone, PartialEq, Eq)]
pub struct ApplyImport(pub Import);

impl Operation for ApplyImport {
    type Output = Job;
    const NAME: &'static str = "import.apply";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let root = self.0.root.display().to_string();
        let judged = judge(cx, self.0).await?;
        let deed = |(judgement, deed): (Judgement, Option<Deed>)| {
            deed.map(|deed| (judgement.kind, judgement.name, deed))
        };
        let deeds: Vec<(ImportKind, String, Deed)> = judged.into_iter().filter_map(deed).collect();
        let total = u64::try_from(deeds.len()).unwrap_or(u64::MAX);
        let (node, secrets) = (cx.node.clone(), cx.secrets.clone());
        cx.node.jobs.start("import", root, total, move |progress| {
            import::carry_out(node, secrets, deeds, progress)
        })
    }
}

async fn judge(cx: &Context, import: Import) -> Result<Vec<(Judgement, Option<Deed>)>, Error> {
    if import.documents.len() > MOST_DOCUMENTS {
        let text = format!("more than {MOST_DOCUMENTS} documents: take them over in parts");
        return Err(Error::new(Code::InvalidArgument, text));
    }
    if !import.root.is_absolute() {
        let text = format!("{} is no absolute path", import.root.display());
        return Err(Error::new(Code::InvalidArgument, text));
    }
    let (node, secrets, host) = (cx.node.clone(), cx.secrets.clone(), cx.host());
    blocking(move || Ok(import::judge(&node, &secrets, &host, &import))).await
}
