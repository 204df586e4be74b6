"""What more than one module of integration tests starts."""

from tests.tiers_desk import check_tiers as check_tiers
from tests.tiers_desk import open_shop as open_shop
from tests.tiers_desk import start_tiers as start_tiers
