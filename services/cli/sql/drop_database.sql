-- Removes a database and ends its connections: variable `name`.
DROP DATABASE IF EXISTS :"name" WITH (FORCE);
