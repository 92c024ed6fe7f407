"""`python -m edge.publish.schemas` writes the schema files anew."""

from edge.publish.schemas import FOLDER, write_schemas

write_schemas(FOLDER)
