"""`--write` renews the files made from the parameter tables; `--check` says whether they agree."""

from __future__ import annotations

import sys

from efficientvla_ros.ros.parameters.generated_files import main

sys.exit(main())
